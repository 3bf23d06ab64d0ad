// Orders of events in which the first runner of this kind lost workers or pushes
// (docs/protocol.md, "Orders that lose pushes"): P4, P5, P8, P11. P7 is in outbox_test.
#include <gtest/gtest.h>

#include "actors/runner/attempt_fsm.hpp"
#include "actors/runner/runner_fsm.hpp"
#include "tests/support/only.hpp"

using namespace ntrace;
using ntrace::test::only;
using namespace ntrace::runner;
using namespace std::chrono_literals;
using domain::verdict;

namespace {

constexpr auto lease = 60s;

struct runner_world {
  runner_fsm uut{"r", {100ms, 1s}, 1};
  time_point now{};
  std::uint64_t token = 0;

  runner_world() {
    uut.on_enrolled(now, "z", 0);
    uut.on_zone_proved(now, "z", "");
    uut.on_link_up(now, 10s, lease);
  }
  bool is_offered() {
    ++token;
    rpc::offer offer;
    offer.token = token;
    offer.run = "R";
    return only<accept_offer>(uut.on_offer(now, offer)).size() == 1;
  }
  bool begins() { return only<begin_attempt>(uut.on_accepted(now, {token, now})).size() == 1; }
  void end(verdict how, bool is_broken) {
    uut.on_attempt_done({token, "R", how, is_broken, {}});
    uut.on_zone_ended(now, "z", is_broken);
    uut.on_delivered(token);
  }
};

}  // namespace

TEST(lost_pushes, p4_a_thousand_accepts_answered_with_an_error_take_no_worker_away) {
  runner_world w;
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(w.is_offered()) << i;
    w.uut.on_not_accepted(w.now, w.token);
  }
  ASSERT_TRUE(w.is_offered());
  EXPECT_TRUE(w.begins());
}

TEST(lost_pushes, p5_a_thousand_runs_that_fail_take_no_worker_away) {
  runner_world w;
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(w.is_offered()) << i;
    ASSERT_TRUE(w.begins()) << i;
    w.end(verdict::script_failed, false);
    ASSERT_EQ(w.uut.pool().free(), w.uut.pool().size()) << i;
  }
  ASSERT_TRUE(w.is_offered());
  EXPECT_TRUE(w.begins());
}

TEST(lost_pushes, p8_a_worker_whose_rollback_fails_three_times_is_repaired_and_works_again) {
  runner_world w;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(w.is_offered()) << i;
    ASSERT_TRUE(w.begins()) << i;
    w.end(verdict::infrastructure, true);
    EXPECT_FALSE(w.is_offered()) << "a broken zone takes no work";
    EXPECT_EQ(w.uut.state(w.now).workers, 1u) << "nor is it put away";
    EXPECT_EQ(only<prove_zone>(w.uut.on_tick(w.now += 2s)).size(), 1u);
    EXPECT_FALSE(w.is_offered()) << "it is proved first";
    w.uut.on_zone_proved(w.now, "z", "");
  }
  ASSERT_TRUE(w.is_offered());
  EXPECT_TRUE(w.begins());
  w.end(verdict::passed, false);
  EXPECT_EQ(w.uut.pool().free(), 1u);
}

TEST(lost_pushes, p11_nothing_is_done_before_the_zone_has_booted_however_long_that_takes) {
  attempt_fsm uut{"z"};
  const auto begun = uut.on_start({});
  ASSERT_EQ(only<perform>(begun).size(), 1u);
  EXPECT_EQ(only<perform>(begun)[0].what, step::rollback);
  EXPECT_TRUE(only<started>(begun).empty());
  ASSERT_EQ(only<report>(begun).size(), 1u);  // People see what the run waits for.
  step_outcome up;
  up.is_clean = true;
  const auto later = uut.on_done(time_point{30s}, step::rollback, up);
  EXPECT_EQ(only<started>(later).size(), 1u);
  bool is_told = false;
  for (const auto& r : only<report>(later)) is_told |= r.event.duration == 30s;
  EXPECT_TRUE(is_told);
}
