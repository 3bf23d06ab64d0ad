// The cases F (calls at run time) and G (significant children) of supervision/README.md.
#include <gtest/gtest.h>

#include "tests/support/supervisor_puppet.hpp"

using namespace ntrace;
using namespace ntrace::test;

TEST(supervisor_F1, says_that_a_child_of_that_id_runs) {
  puppet uut{one_for_one()};
  uut.start({permanent("1")}).take();
  EXPECT_EQ(uut.add(permanent("1")), ec::already_started);
  EXPECT_EQ(uut.take(), "");
}

TEST(supervisor_F2, says_that_a_stopped_child_of_that_id_is_there) {
  puppet uut{one_for_one()};
  uut.start({permanent("1")});
  EXPECT_EQ(uut.terminate("1"), ec::none);
  EXPECT_EQ(uut.add(permanent("1")), ec::already_present);
}

TEST(supervisor_F3, keeps_no_spec_of_a_child_that_did_not_start) {
  puppet uut{one_for_one()};
  uut.failing = {"2"};
  uut.start({permanent("1")}).take();
  EXPECT_EQ(uut.add(permanent("2")), ec::child_failed);
  EXPECT_EQ(uut.take(), "fail 2, drop 2");
  EXPECT_EQ(uut.fsm.count_children().specs, 1u);
  EXPECT_EQ(uut.fsm.budget_left(uut.now), 3u);
}

TEST(supervisor_F4, restarts_a_terminated_child_as_a_new_incarnation) {
  puppet uut{one_for_one()};
  uut.start({permanent("1")});
  EXPECT_EQ(uut.terminate("1"), ec::none);
  EXPECT_EQ(uut.state("1"), child_state::stopped);
  EXPECT_EQ(uut.restart("1"), ec::none);
  EXPECT_EQ(uut.incarnation("1"), 2u);
  EXPECT_EQ(uut.fsm.budget_left(uut.now), 3u);
}

TEST(supervisor_F4, leaves_a_child_stopped_whose_asked_restart_fails) {
  puppet uut{one_for_one()};
  uut.start({permanent("1")});
  uut.terminate("1");
  uut.failing = {"1"};
  EXPECT_EQ(uut.restart("1"), ec::child_failed);
  EXPECT_EQ(uut.pass(1h).state("1"), child_state::stopped);
}

TEST(supervisor_F5, refuses_to_restart_a_running_child) {
  puppet uut{one_for_one()};
  EXPECT_EQ(uut.start({permanent("1")}).restart("1"), ec::child_running);
}

TEST(supervisor_F6, deletes_only_a_stopped_child) {
  puppet uut{one_for_one()};
  uut.start({permanent("1")});
  EXPECT_EQ(uut.remove("1"), ec::child_running);
  uut.terminate("1");
  EXPECT_EQ(uut.remove("1"), ec::none);
  EXPECT_EQ(uut.add(permanent("1")), ec::none);
}

TEST(supervisor_F7, answers_each_call_about_an_unknown_child) {
  puppet uut{one_for_one()};
  uut.start();
  EXPECT_EQ(uut.terminate("x"), ec::not_found);
  EXPECT_EQ(uut.restart("x"), ec::not_found);
  EXPECT_EQ(uut.remove("x"), ec::not_found);
}

TEST(supervisor_F8, forgets_a_terminated_temporary_child) {
  puppet uut{one_for_one()};
  uut.start({temporary("1")}).take();
  EXPECT_EQ(uut.terminate("1"), ec::none);
  EXPECT_EQ(uut.take(), "stop 1, drop 1");
}

TEST(supervisor_F9, counts_as_which_children_tells_at_every_step) {
  puppet uut{rest_for_one(100)};
  auto nested = permanent("2");
  nested.kind = child_kind::supervisor;
  uut.start({permanent("1"), nested, temporary("3")});
  EXPECT_EQ(uut.fsm.count_children(), (child_counts{3, 3, 1, 2}));
  for (const auto* id : {"2", "1", "3", "1"}) {
    uut.die(id);
    EXPECT_TRUE(uut.counts_agree());
    uut.terminate(id);
    EXPECT_TRUE(uut.counts_agree());
    uut.restart(id);
    EXPECT_TRUE(uut.counts_agree());
  }
}

TEST(supervisor_F10, knows_no_dynamic_child_by_the_templates_id) {
  puppet uut{dynamic(), permanent("w")};
  uut.start();
  uut.add({});
  EXPECT_EQ(uut.terminate("w"), ec::not_found);
  EXPECT_EQ(uut.terminate("w_1"), ec::none);
  EXPECT_TRUE(uut.fsm.children().empty());
}

TEST(supervisor_F11, changes_nothing_for_a_bad_spec_and_names_the_field) {
  puppet uut{one_for_one()};
  uut.start({permanent("1")}).take();
  const auto field_of = [&](const child_spec& bad) {
    const auto call = uut.next_call;
    EXPECT_EQ(uut.add(bad), ec::bad_spec);
    return uut.answers.at(call).second.error().facts.at(0).second;
  };
  EXPECT_EQ(field_of(permanent("")), "id");
  EXPECT_EQ(field_of(permanent("a/b")), "id");
  EXPECT_EQ(field_of(with_shutdown(permanent("2"), {-1ms})), "shutdown");
  EXPECT_EQ(field_of(significant(permanent("2"))), "significant");
  auto late = permanent("2");
  late.start_deadline = 0ms;
  EXPECT_EQ(field_of(late), "start_deadline");
  for (const restart_backoff& bad : {restart_backoff{2s, 1s}, {1s, 2s, 0.5}, {1s, 2s, 2, 1.5}}) {
    auto c = permanent("2");
    c.backoff = bad;
    EXPECT_EQ(field_of(c), "backoff");
  }
  EXPECT_EQ(uut.take(), "");
  EXPECT_EQ(uut.fsm.count_children().specs, 1u);
}

TEST(supervisor_F12, lets_calls_wait_for_a_restart_and_answers_them_in_order) {
  puppet uut{one_for_one()};
  uut.start({permanent("1"), permanent("2")});
  uut.hanging = {"1"};
  uut.die("1").take();
  const auto first = uut.begin(&supervisor_fsm::on_terminate_child, "2");
  const auto second = uut.begin(&supervisor_fsm::on_delete_child, "2");
  EXPECT_EQ(uut.outcome(first), ec::defect);
  uut.perform(uut.fsm.on_started(uut.now, "1", 2, {}));
  EXPECT_EQ(uut.outcome(first), ec::none);
  EXPECT_EQ(uut.outcome(second), ec::none);
  EXPECT_EQ(uut.take(), "stop 2, drop 2");
}

TEST(supervisor_F12, restarts_what_waits_for_its_turn_after_a_start_that_was_asked_for) {
  puppet uut{rest_for_one()};
  uut.start({permanent("1"), permanent("2")});
  uut.failing = {"1"};
  uut.die("1");
  uut.failing.clear();
  uut.hanging = {"3"};
  uut.add(permanent("3"));
  uut.tick().take();
  uut.perform(uut.fsm.on_started(uut.now, "3", 1, {}));
  EXPECT_EQ(uut.take(), "start 1, start 2");
  EXPECT_EQ(uut.state("1"), child_state::running);
}

TEST(supervisor_F12, answers_calls_that_wait_when_it_stops) {
  puppet uut{one_for_one()};
  uut.start({permanent("1"), permanent("2")});
  uut.hanging = {"1"};
  uut.die("1");
  const auto call = uut.begin(&supervisor_fsm::on_terminate_child, "2");
  uut.stop();
  EXPECT_EQ(uut.outcome(call), ec::draining);
  EXPECT_EQ(uut.terminate("2"), ec::draining);
}

TEST(supervisor_F12, refuses_more_waiting_calls_than_its_bound) {
  puppet uut{one_for_one()};
  uut.start({permanent("1")});
  uut.hanging = {"1"};
  uut.die("1");
  for (std::size_t i = 0; i < supervisor_fsm::calls_max; ++i)
    EXPECT_EQ(uut.terminate("2"), ec::defect);
  EXPECT_EQ(uut.terminate("2"), ec::overloaded);
}

namespace {

supervisor_flags ending(auto_shutdown when) {
  auto out = one_for_one();
  out.ends = when;
  return out;
}

}  // namespace

TEST(supervisor_G1, ends_with_the_normal_end_of_any_significant_child) {
  puppet uut{ending(auto_shutdown::any_significant)};
  uut.start({permanent("1"), significant(transient("2")), permanent("3")}).take();
  EXPECT_EQ(uut.die("2", normal).take(), "stop 3, stop 1, end");
}

TEST(supervisor_G1, ends_also_while_a_child_is_being_restarted) {
  for (const auto& how :
       {start_outcome{}, start_outcome{true, {}}, start_outcome{false, {ec::io, "no luck", {}}}}) {
    puppet uut{ending(auto_shutdown::any_significant)};
    uut.hanging = {"1"};
    uut.deaf = {"4"};
    uut.start({permanent("0")});
    uut.add(permanent("1"));
    uut.perform(uut.fsm.on_started(uut.now, "1", 1, {}));
    uut.add(significant(transient("2")));
    uut.add(with_shutdown(permanent("4"), shutdown_policy::infinity()));
    uut.die("1");
    EXPECT_EQ(uut.die("2", normal).state("1"), child_state::starting);
    uut.take();
    uut.perform(uut.fsm.on_started(uut.now, "1", 2, how));
    uut.die("4", shut_down);
    const bool runs = !how.ignored && how.failed.code == ec::none;
    EXPECT_EQ(uut.take(), runs ? "stop 1, stop 0, end" : "stop 0, end");
  }
}

TEST(supervisor_G2, restarts_a_significant_transient_child_that_failed) {
  puppet uut{ending(auto_shutdown::any_significant)};
  uut.start({permanent("1"), significant(transient("2"))}).take();
  EXPECT_EQ(uut.die("2").take(), "start 2");
}

TEST(supervisor_G3, ends_with_any_end_of_a_significant_temporary_child) {
  puppet uut{ending(auto_shutdown::any_significant)};
  uut.start({permanent("1"), significant(temporary("2"))}).take();
  EXPECT_EQ(uut.die("2").take(), "drop 2, stop 1, end");
}

TEST(supervisor_G4, ends_with_the_last_of_all_significant_children) {
  puppet uut{ending(auto_shutdown::all_significant)};
  uut.start({permanent("1"), significant(transient("2")), significant(temporary("3"))}).take();
  EXPECT_EQ(uut.die("2", normal).take(), "");
  EXPECT_EQ(uut.die("3").take(), "drop 3, stop 1, end");
}

TEST(supervisor_G5, refuses_a_significant_child_without_auto_shutdown) {
  supervisor_fsm uut{one_for_one()};
  EXPECT_EQ(code_of(uut.on_start({}, {significant(transient("1"))})), ec::bad_spec);
}

TEST(supervisor_G6, refuses_a_significant_permanent_child) {
  supervisor_fsm uut{ending(auto_shutdown::any_significant)};
  EXPECT_EQ(code_of(uut.on_start({}, {significant(permanent("1"))})), ec::bad_spec);
}

TEST(supervisor_G7, lives_on_when_a_significant_child_is_terminated) {
  puppet uut{ending(auto_shutdown::any_significant)};
  uut.start({permanent("1"), significant(transient("2"))});
  EXPECT_EQ(uut.terminate("2"), ec::none);
  EXPECT_FALSE(uut.fsm.is_ending());
}

TEST(supervisor_G8, lives_on_when_a_round_stops_a_significant_child) {
  auto flags = ending(auto_shutdown::any_significant);
  flags.how = strategy::one_for_all;
  puppet uut{flags};
  uut.start({permanent("1"), significant(transient("2"))}).take();
  EXPECT_EQ(uut.die("1").take(), "stop 2, start 1, start 2");
}
