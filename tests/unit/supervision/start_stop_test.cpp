// The cases A (start), B (restart types and strategies) and E (stop) of supervision/README.md.
#include <gtest/gtest.h>

#include "tests/support/supervisor_puppet.hpp"

using namespace ntrace;
using namespace ntrace::test;

TEST(supervisor_A1, starts_children_in_order) {
  puppet uut{one_for_one()};
  EXPECT_EQ(uut.start({permanent("1"), permanent("2"), permanent("3")}).take(),
            "start 1, start 2, start 3, up");
}

TEST(supervisor_A1, starts_no_child_before_the_one_ahead_is_up) {
  puppet uut{one_for_one()};
  uut.hanging = {"1"};
  EXPECT_EQ(uut.start({permanent("1"), permanent("2")}).take(), "start 1");
  uut.perform(uut.fsm.on_started(uut.now, "1", 1, {}));
  EXPECT_EQ(uut.take(), "start 2, up");
}

TEST(supervisor_A2, stops_what_it_started_and_names_the_child_when_a_start_fails) {
  puppet uut{one_for_one()};
  uut.failing = {"3"};
  EXPECT_EQ(uut.start({permanent("1"), permanent("2"), permanent("3"), permanent("4")}).take(),
            "start 1, start 2, fail 3, stop 2, stop 1, "
            "end failed: child 3 did not start: child_failed: no luck");
}

TEST(supervisor_A3, keeps_the_spec_of_a_child_that_wants_no_process) {
  puppet uut{one_for_one()};
  uut.ignoring = {"2"};
  EXPECT_EQ(uut.start({permanent("1"), permanent("2"), permanent("3")}).take(),
            "start 1, ignore 2, start 3, up");
  EXPECT_EQ(uut.state("2"), child_state::stopped);
  EXPECT_EQ(uut.fsm.count_children(), (child_counts{3, 2, 0, 3}));
}

TEST(supervisor_A4, drops_a_temporary_child_that_wants_no_process) {
  puppet uut{one_for_one()};
  uut.ignoring = {"2"};
  EXPECT_EQ(uut.start({permanent("1"), temporary("2")}).take(), "start 1, ignore 2, drop 2, up");
  EXPECT_EQ(uut.fsm.find("2"), nullptr);
}

TEST(supervisor_A5, refuses_an_id_that_is_there_twice_and_starts_nothing) {
  supervisor_fsm uut{one_for_one()};
  const auto started = uut.on_start({}, {permanent("1"), permanent("1")});
  ASSERT_EQ(code_of(started), ec::bad_spec);
  EXPECT_NE(started.error().message.find("\"1\""), std::string::npos);
  EXPECT_TRUE(uut.children().empty());
}

TEST(supervisor_A6, starts_and_stops_without_children) {
  puppet uut{one_for_one()};
  EXPECT_EQ(uut.start().take(), "up");
  EXPECT_EQ(uut.stop().take(), "end");
}

TEST(supervisor_A8, kills_a_child_that_does_not_start_in_time) {
  puppet uut{one_for_one()};
  auto slow = permanent("2");
  slow.start_deadline = 100ms;
  uut.hanging = {"2"};
  uut.start({permanent("1"), slow}).take();
  EXPECT_EQ(uut.pass(99ms).take(), "");
  EXPECT_EQ(uut.pass(1ms).take(),
            "kill 2, stop 1, end failed: child 2 did not start: timed_out: the start did not end "
            "within its deadline");
}

TEST(supervisor_A8, believes_no_start_that_is_over_after_its_deadline) {
  puppet uut{one_for_one()};
  auto slow = permanent("1");
  slow.start_deadline = 100ms;
  uut.hanging = uut.immortal = {"1"};
  uut.start({slow}).pass(100ms);
  uut.take();
  uut.perform(uut.fsm.on_started(uut.now, "1", 1, {}));
  EXPECT_EQ(uut.state("1"), child_state::starting);
  EXPECT_NE(uut.die("1").take().find("end failed"), std::string::npos);
}

TEST(supervisor_B1, restarts_a_permanent_child_after_a_normal_end) {
  puppet uut{one_for_one()};
  uut.start({permanent("1")}).take();
  EXPECT_EQ(uut.die("1", normal).take(), "start 1");
}

TEST(supervisor_B2, restarts_only_the_one_that_died) {
  puppet uut{one_for_one()};
  uut.start({permanent("1"), permanent("2"), permanent("3")}).take();
  EXPECT_EQ(uut.die("2").take(), "start 2");
  EXPECT_EQ(uut.incarnation("1") * 100 + uut.incarnation("2") * 10 + uut.incarnation("3"), 121u);
}

TEST(supervisor_B3, leaves_a_transient_child_that_ended_normally) {
  for (const auto& why : {normal, exit_reason{exit_kind::shutdown, ""}, shut_down}) {
    puppet uut{one_for_one()};
    uut.start({transient("1")}).take();
    EXPECT_EQ(uut.die("1", why).take(), "");
    EXPECT_EQ(uut.state("1"), child_state::stopped);
    EXPECT_EQ(uut.fsm.budget_left(uut.now), 3u);
  }
}

TEST(supervisor_B4, restarts_a_transient_child_that_failed) {
  for (const auto& why : {crash, exit_reason{exit_kind::killed, ""}}) {
    puppet uut{one_for_one()};
    uut.start({transient("1")}).take();
    EXPECT_EQ(uut.die("1", why).take(), "start 1");
  }
}

TEST(supervisor_B5, forgets_a_temporary_child_whatever_it_ended_of) {
  for (const auto& why : {normal, crash}) {
    puppet uut{one_for_one()};
    uut.start({temporary("1")}).take();
    EXPECT_EQ(uut.die("1", why).take(), "drop 1");
    EXPECT_TRUE(uut.fsm.children().empty());
  }
}

TEST(supervisor_B6, restarts_all_for_one) {
  puppet uut{one_for_all()};
  uut.start({permanent("1"), permanent("2"), permanent("3")}).take();
  EXPECT_EQ(uut.die("2").take(), "stop 3, stop 1, start 1, start 2, start 3");
}

TEST(supervisor_B7, drops_temporary_children_that_a_round_stops) {
  puppet uut{one_for_all()};
  uut.start({permanent("1"), temporary("2"), permanent("3")}).take();
  EXPECT_EQ(uut.die("1").take(), "stop 3, stop 2, drop 2, start 1, start 3");
}

TEST(supervisor_B8, restarts_the_rest_for_one) {
  puppet uut{rest_for_one()};
  uut.start({permanent("1"), permanent("2"), permanent("3"), permanent("4")}).take();
  EXPECT_EQ(uut.die("2").take(), "stop 4, stop 3, start 2, start 3, start 4");
  EXPECT_EQ(uut.incarnation("1"), 1u);
}

TEST(supervisor_B9, restarts_only_the_last_when_the_last_dies) {
  puppet uut{rest_for_one()};
  uut.start({permanent("1"), permanent("2")}).take();
  EXPECT_EQ(uut.die("2").take(), "start 2");
}

TEST(supervisor_B10, makes_one_round_of_two_ends_and_counts_both) {
  puppet uut{one_for_all()};
  uut.deaf = {"3"};
  uut.start({permanent("1"), permanent("2"), permanent("3")}).take();
  uut.die("2");  // The round waits for 3 to stop.
  uut.die("1");  // 1 dies before it is asked.
  uut.die("3", {exit_kind::shutdown, ""});
  EXPECT_EQ(uut.take(), "stop 3, start 1, start 2, start 3");
  EXPECT_EQ(uut.fsm.budget_left(uut.now), 1u);
  EXPECT_EQ(uut.incarnation("1"), 2u);
}

TEST(supervisor_B10, does_not_count_a_normal_transient_end_within_a_round) {
  puppet uut{one_for_all()};
  uut.deaf = {"3"};
  uut.start({transient("1"), permanent("2"), permanent("3")}).take();
  uut.die("2").die("1", normal).die("3", {exit_kind::shutdown, ""});
  EXPECT_EQ(uut.take(), "stop 3, start 1, start 2, start 3");
  EXPECT_EQ(uut.fsm.budget_left(uut.now), 2u);
}

TEST(supervisor_B11, restarts_one_dynamic_child_under_its_own_id) {
  puppet uut{dynamic(), permanent("w")};
  uut.start();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(uut.add({}), ec::none);
  uut.take();
  EXPECT_EQ(uut.die("w_3").take(), "start w_3");
  EXPECT_EQ(uut.fsm.children().size(), 5u);
}

TEST(supervisor_B12, touches_nobody_when_a_transient_ends_normally_in_one_for_all) {
  puppet uut{one_for_all()};
  uut.start({permanent("1"), transient("2")}).take();
  EXPECT_EQ(uut.die("2", normal).take(), "");
}

TEST(supervisor_E1, asks_and_does_not_kill_a_child_that_obeys) {
  puppet uut{one_for_one()};
  uut.start({with_shutdown(permanent("1"), {100ms})}).take();
  EXPECT_EQ(uut.stop().pass(1s).take(), "stop 1, end");
}

TEST(supervisor_E2, kills_at_the_deadline_and_goes_on) {
  puppet uut{one_for_one()};
  uut.deaf = {"2"};
  uut.start({permanent("1"), with_shutdown(permanent("2"), {100ms})}).take();
  EXPECT_EQ(uut.stop().pass(99ms).take(), "stop 2");
  EXPECT_EQ(uut.pass(1ms).take(), "kill 2, stop 1, end");
}

TEST(supervisor_E3, kills_at_once_when_told_so) {
  puppet uut{one_for_one()};
  uut.start({with_shutdown(permanent("1"), shutdown_policy::brutal_kill())}).take();
  EXPECT_EQ(uut.stop().take(), "kill 1, end");
}

TEST(supervisor_E3, asks_a_child_with_a_deadline_of_zero_before_it_kills_it) {
  puppet uut{one_for_one()};
  uut.deaf = {"2"};
  uut.start({with_shutdown(permanent("1"), {0ms}), with_shutdown(permanent("2"), {0ms})}).take();
  EXPECT_EQ(uut.stop().take(), "stop 2");
  EXPECT_EQ(uut.pass(0ms).take(), "kill 2, stop 1, end");
}

TEST(supervisor_E4, waits_for_ever_when_told_so) {
  puppet uut{one_for_one()};
  uut.deaf = {"1"};
  uut.start({with_shutdown(permanent("1"), shutdown_policy::infinity())}).take();
  EXPECT_EQ(uut.stop().pass(24h).take(), "stop 1");
  EXPECT_EQ(uut.die("1", shut_down).take(), "end");
}

TEST(supervisor_E5, reports_a_child_that_ends_badly_while_it_is_stopped) {
  puppet uut{one_for_one()};
  uut.deaf = {"1"};
  uut.start({permanent("1")}).take();
  EXPECT_EQ(uut.stop().die("1").take(), "stop 1, report 1 boom, end");
}

TEST(supervisor_E6, stops_dynamic_children_together) {
  puppet uut{dynamic(), with_shutdown(permanent("w"), {100ms})};
  uut.start();
  for (int i = 1; i <= 100; ++i) {
    uut.add({});
    uut.deaf.insert("w_" + std::to_string(i));
  }
  uut.take();
  const auto began = uut.now;
  uut.stop().pass(99ms);
  EXPECT_EQ(uut.take().find("kill"), std::string::npos);
  uut.pass(1ms);
  EXPECT_TRUE(uut.take().ends_with(", end"));
  EXPECT_EQ(uut.now - began, 100ms);
}

TEST(supervisor_E7, keeps_the_reason_of_a_child_that_ends_just_before_its_kill) {
  puppet uut{one_for_one()};
  uut.deaf = uut.immortal = {"1"};
  uut.start({with_shutdown(permanent("1"), {100ms})}).take();
  EXPECT_EQ(uut.stop().pass(100ms).take(), "stop 1, kill 1");
  EXPECT_EQ(uut.die("1", shut_down).take(), "end");
  EXPECT_EQ(uut.info("1").last_reason, "done");
}
