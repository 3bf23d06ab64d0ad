// The cases C (intensity), D (failed restarts) and H1, H2, H9, H10 of supervision/README.md.
#include <gtest/gtest.h>

#include "tests/support/seeded.hpp"
#include "tests/support/supervisor_puppet.hpp"

using namespace ntrace;
using namespace ntrace::test;

namespace {

/// A child that was restarted three times at once, and dies again after `wait`.
std::string fourth_end_after(milliseconds wait) {
  puppet uut{one_for_one(3)};
  uut.start({permanent("1"), permanent("2")});
  for (int i = 0; i < 3; ++i) uut.die("1");
  uut.pass(wait).take();
  return uut.die("1").take();
}

}  // namespace

TEST(supervisor_C1, lives_through_as_many_restarts_as_its_intensity) {
  puppet uut{one_for_one(3)};
  uut.start({permanent("1")}).take();
  EXPECT_EQ(uut.die("1").die("1").die("1").take(), "start 1, start 1, start 1");
  EXPECT_EQ(uut.fsm.budget_left(uut.now), 0u);
}

TEST(supervisor_C2, stops_all_and_ends_at_one_restart_more) {
  EXPECT_EQ(fourth_end_after(0ms), "stop 2, end");
}

TEST(supervisor_C3, counts_a_restart_that_is_exactly_a_period_old) {
  EXPECT_EQ(fourth_end_after(5000ms), "stop 2, end");
}

TEST(supervisor_C4, forgets_a_restart_that_is_older_than_the_period) {
  EXPECT_EQ(fourth_end_after(5001ms), "start 1");
}

TEST(supervisor_C5, gives_up_at_the_first_restart_with_intensity_0) {
  puppet uut{one_for_one(0)};
  uut.start({permanent("1"), permanent("2")}).take();
  EXPECT_EQ(uut.die("1").take(), "stop 2, end");
}

TEST(supervisor_C6, never_counts_temporary_children) {
  puppet uut{one_for_one(1)};
  uut.start();
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(uut.add(temporary("t")), ec::none);
    uut.die("t");
  }
  EXPECT_FALSE(uut.fsm.is_ending());
  EXPECT_EQ(uut.fsm.budget_left(uut.now), 1u);
}

TEST(supervisor_C9, counts_a_round_once) {
  puppet uut{one_for_all(3)};
  uut.start({permanent("1"), permanent("2"), permanent("3")}).die("2");
  EXPECT_EQ(uut.fsm.budget_left(uut.now), 2u);
}

TEST(supervisor_C10, trips_while_the_clock_stands_still) {
  puppet uut{one_for_one(3)};
  uut.start({permanent("1")}).take();
  for (int i = 0; i < 4; ++i) uut.die("1");
  EXPECT_TRUE(uut.take().ends_with("end"));
}

TEST(supervisor_C11, ends_once_when_it_trips_during_a_stop) {
  puppet uut{one_for_one(0)};
  uut.deaf = {"1", "2"};
  uut.start({permanent("1"), permanent("2")}).take();
  uut.stop().die("1").stop().die("2");
  EXPECT_EQ(uut.take(), "stop 2, report 2 boom, end");
}

TEST(supervisor_D1, counts_each_failed_restart_and_goes_on) {
  puppet uut{one_for_one(5)};
  uut.start({permanent("1")}).take();
  uut.failing = {"1"};
  EXPECT_EQ(uut.die("1").take(), "fail 1");
  EXPECT_EQ(uut.tick().state("1"), child_state::restarting);
  uut.failing.clear();
  uut.tick();
  EXPECT_EQ(uut.take(), "fail 1, start 1");
  EXPECT_EQ(uut.info("1").restarts, 3u);
  EXPECT_EQ(uut.fsm.budget_left(uut.now), 2u);
}

TEST(supervisor_D1,
     retries_a_restart_that_fails_while_another_child_is_still_starting_for_the_first_time) {
  puppet uut{one_for_one()};
  uut.hanging = {"2"};
  uut.start({permanent("1"), permanent("2")});
  EXPECT_EQ(uut.take(), "start 1, start 2");
  uut.die("1");
  uut.failing = {"1"};
  uut.perform(uut.fsm.on_started(uut.now, "2", 1, {}));
  EXPECT_EQ(uut.take(), "up, fail 1");
  uut.failing.clear();
  EXPECT_EQ(uut.tick().take(), "start 1");
  EXPECT_EQ(uut.state("1"), child_state::running);
}

TEST(supervisor_D2, trips_when_restarts_fail_for_ever_and_serves_calls_in_between) {
  puppet uut{one_for_one(3)};
  uut.start({permanent("1")}).take();
  uut.failing = {"1"};
  uut.die("1");
  EXPECT_EQ(uut.add(permanent("2")), ec::none);
  EXPECT_EQ(uut.take(), "fail 1, start 2");
  for (int i = 0; i < 3; ++i) uut.pass(0ms);
  EXPECT_EQ(uut.take(), "fail 1, fail 1, stop 2, end");
}

TEST(supervisor_D3, retries_a_round_of_all_from_the_child_that_failed) {
  puppet uut{one_for_all(5)};
  uut.start({permanent("1"), permanent("2"), permanent("3")}).take();
  uut.failing = {"2"};
  EXPECT_EQ(uut.die("1").take(), "stop 3, stop 2, start 1, fail 2");
  uut.failing.clear();
  EXPECT_EQ(uut.pass(0ms).take(), "start 2, start 3");
  EXPECT_EQ(uut.incarnation("1"), 2u);
}

TEST(supervisor_D3, begins_anew_when_a_started_one_dies_before_the_retry) {
  puppet uut{one_for_all(5)};
  uut.start({permanent("1"), permanent("2")}).take();
  uut.failing = {"2"};
  uut.die("2").take();
  uut.failing.clear();
  EXPECT_EQ(uut.die("1").take(), "start 1, start 2");
  EXPECT_EQ(uut.pass(1s).take(), "");
}

TEST(supervisor_D4, retries_a_round_of_the_rest_from_the_child_that_failed) {
  puppet uut{rest_for_one(5)};
  uut.start({permanent("1"), permanent("2"), permanent("3"), permanent("4")}).take();
  uut.failing = {"3"};
  EXPECT_EQ(uut.die("2").take(), "stop 4, stop 3, start 2, fail 3");
  uut.failing.clear();
  EXPECT_EQ(uut.pass(0ms).take(), "start 3, start 4");
}

TEST(supervisor_D4, takes_a_later_death_into_the_round_that_waits) {
  puppet uut{rest_for_one(5)};
  uut.start({permanent("1"), permanent("2")}).take();
  uut.failing = {"1"};
  uut.die("1").take();
  EXPECT_EQ(uut.add(permanent("3")), ec::none);
  uut.die("3");
  uut.failing.clear();
  EXPECT_EQ(uut.pass(0ms).take(), "start 3, start 1, start 2, start 3");
}

TEST(supervisor_D5, shows_a_child_that_waits_for_its_restart) {
  puppet uut{one_for_one()};
  uut.start({permanent("1")});
  uut.failing = {"1"};
  uut.die("1");
  EXPECT_EQ(uut.state("1"), child_state::restarting);
  EXPECT_EQ(uut.fsm.count_children().active, 0u);
}

TEST(supervisor_D6, cancels_the_retry_of_a_terminated_child) {
  puppet uut{one_for_one()};
  uut.start({permanent("1")});
  uut.failing = {"1"};
  uut.die("1").take();
  EXPECT_EQ(uut.terminate("1"), ec::none);
  uut.failing.clear();
  EXPECT_EQ(uut.pass(1h).take(), "");
  EXPECT_EQ(uut.state("1"), child_state::stopped);
}

TEST(supervisor_D6, brings_up_the_others_of_a_round_whose_failing_child_is_terminated) {
  puppet uut{rest_for_one()};
  uut.start({permanent("1"), permanent("2"), permanent("3")});
  uut.failing = {"1"};
  uut.die("1").take();
  EXPECT_EQ(uut.terminate("1"), ec::none);
  EXPECT_EQ(uut.take(), "start 2, start 3");
}

TEST(supervisor_D7, refuses_to_delete_a_child_that_waits_for_its_restart) {
  puppet uut{one_for_one()};
  uut.start({permanent("1")});
  uut.failing = {"1"};
  uut.die("1");
  EXPECT_EQ(uut.remove("1"), ec::child_restarting);
  EXPECT_EQ(uut.restart("1"), ec::child_restarting);
}

TEST(supervisor_D8, ends_without_the_retry_when_it_is_stopped) {
  puppet uut{one_for_one()};
  uut.start({permanent("1")});
  uut.failing = {"1"};
  uut.die("1").take();
  EXPECT_EQ(uut.stop().pass(1h).take(), "end");
}

TEST(supervisor_D9, retries_a_dynamic_child_under_the_same_id) {
  puppet uut{dynamic(5), permanent("w")};
  uut.start();
  uut.add({});
  uut.failing = {"w_1"};
  uut.die("w_1").take();
  uut.failing.clear();
  EXPECT_EQ(uut.pass(0ms).take(), "start w_1");
}

namespace {

child_spec with_backoff(double jitter) {
  auto out = permanent("1");
  out.backoff = {100ms, 1s, 2, jitter, 10s};
  return out;
}

/// How long the child is down after its end.
milliseconds down_time(puppet& uut) {
  const auto began = uut.now;
  const auto before = uut.incarnation("1");
  uut.die("1");
  EXPECT_EQ(uut.state("1"), child_state::restarting);
  while (uut.incarnation("1") == before && uut.now - began < 1h) uut.pass(1ms);
  return std::chrono::duration_cast<milliseconds>(uut.now - began);
}

}  // namespace

TEST(supervisor_H1, waits_twice_as_long_before_each_restart_up_to_the_maximum) {
  puppet uut{{strategy::one_for_one, 100, 5s}};
  uut.start({with_backoff(0)});
  for (const auto expected : {100ms, 200ms, 400ms, 800ms, 1000ms, 1000ms})
    EXPECT_EQ(down_time(uut), expected);
}

TEST(supervisor_H1, spreads_the_wait_within_the_jitter_to_both_sides) {
  bool shorter = false, longer = false;
  for (int i = 0; i < 50; ++i) {
    puppet uut{{strategy::one_for_one, 100, 5s}};
    uut.fsm = supervisor_fsm{uut.fsm.flags(), {}, static_cast<std::uint64_t>(i)};
    uut.start({with_backoff(0.5)});
    const auto seen = down_time(uut);
    EXPECT_TRUE(50ms <= seen && seen <= 150ms) << seen.count();
    shorter = shorter || seen < 90ms;
    longer = longer || seen > 110ms;
  }
  EXPECT_TRUE(shorter && longer);
}

TEST(supervisor_H1, stops_the_others_of_a_round_at_once_and_starts_them_after_the_wait) {
  puppet uut{one_for_all()};
  uut.start({with_backoff(0), permanent("2")}).take();
  EXPECT_EQ(uut.die("1").take(), "stop 2");
  EXPECT_EQ(uut.state("2"), child_state::restarting);
  EXPECT_EQ(uut.pass(99ms).take(), "");
  EXPECT_EQ(uut.pass(1ms).take(), "start 1, start 2");
}

TEST(supervisor_H1, counts_restarts_that_waited_against_the_intensity) {
  puppet uut{one_for_one(2)};
  uut.start({with_backoff(0)});
  down_time(uut);
  down_time(uut);
  uut.take();
  EXPECT_EQ(uut.die("1").take(), "end");
}

TEST(supervisor_H2, begins_at_the_minimum_again_after_a_stable_time) {
  puppet uut{{strategy::one_for_one, 100, 5s}};
  uut.start({with_backoff(0)});
  for (int i = 0; i < 3; ++i) down_time(uut);
  uut.pass(9'999ms);
  EXPECT_EQ(down_time(uut), 800ms);
  uut.pass(10s);
  EXPECT_EQ(down_time(uut), 100ms);
}

TEST(supervisor_H9, does_as_much_for_one_of_ten_thousand_as_for_one_of_ten) {
  const auto effects_of_an_end = [](int children) {
    puppet uut{one_for_one()};
    std::vector<child_spec> specs;
    for (int i = 0; i < children; ++i) specs.push_back(permanent(std::to_string(i)));
    uut.start(specs);
    uut.alive.erase("5");
    return uut.fsm.on_exit(uut.now, "5", 1, crash).size();
  };
  EXPECT_EQ(effects_of_an_end(10), 1u);
  EXPECT_EQ(effects_of_an_end(10'000), 1u);
}

TEST(supervisor_H10, keeps_its_promises_under_random_trees_and_faults) {
  seeded s;
  for (int round = 0; round < 2000; ++round) {
    const auto how = static_cast<strategy>(s.random.below(3));
    puppet uut{{how, 50, 5s, auto_shutdown::never}};
    std::vector<child_spec> specs;
    for (std::uint64_t i = 0, n = 1 + s.random.below(6); i < n; ++i) {
      child_spec c;
      c.id = std::to_string(i);
      c.restart = static_cast<restart_type>(s.random.below(3));
      if (s.random.below(2) == 0) c.backoff = {50ms, 200ms, 2, 0.2, 1s};
      specs.push_back(c);
    }
    uut.start(specs);
    for (int i = 0; i < 40; ++i) {
      const auto id = std::to_string(s.random.below(7));
      const auto toggle = [&](std::set<std::string>& in) {
        if (in.erase(id) == 0) in.insert(id);
      };
      switch (s.random.below(10)) {
        case 0:
          toggle(uut.failing);
          break;
        case 1:
          toggle(uut.deaf);
          break;
        case 2:
          uut.terminate(id);
          break;
        case 3:
          uut.restart(id);
          break;
        case 4:
          uut.remove(id);
          break;
        case 5:
          uut.add(transient(id));
          break;
        case 6:
          uut.die(id, normal);
          break;
        default:
          uut.die(id);
          break;
      }
      uut.pass(milliseconds{s.random.below(300)});
      ASSERT_TRUE(uut.counts_agree()) << uut.take();
    }
    // Faults over: all that must run does, once each of 40 inputs has waited for at most seven
    // deaf children, 5 s each.
    uut.failing.clear();
    uut.pass(40 * 7 * 5s);
    for (const auto& c : uut.fsm.children()) {
      ASSERT_TRUE(uut.fsm.is_ending() || c.state == child_state::running ||
                  c.state == child_state::stopped)
          << c.spec.id << " is " << to_string(c.state) << " after " << uut.take();
    }
    ASSERT_EQ(uut.answers.size(), uut.next_call - 1) << "a call without an answer";
    uut.stop().pass(10min);
    ASSERT_TRUE(uut.alive.empty());
    ASSERT_EQ(std::count(uut.story.begin(), uut.story.end(), "end"), 1) << uut.take();
  }
}
