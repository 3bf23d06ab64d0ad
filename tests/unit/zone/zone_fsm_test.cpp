// A zone's life as its runner sees it, in virtual time.
#include <gtest/gtest.h>

#include "actors/zone/zone_fsm.hpp"

using namespace ntrace;
using namespace ntrace::zone;
using namespace std::chrono_literals;

namespace {

constexpr backoff_policy policy{1000ms, 300'000ms};

class zone_life : public ::testing::Test {
protected:
  /// Goes on to when it is to be proved, and gives it that answer.
  void prove(const std::string& problem = "") {
    ASSERT_TRUE(uut.wake().has_value());
    ASSERT_GE(*uut.wake(), now);
    now = *uut.wake();
    ASSERT_TRUE(uut.on_tick(now));
    EXPECT_FALSE(uut.on_tick(now)) << "one at a time";
    EXPECT_FALSE(uut.on_acquire());
    uut.on_proved(now, problem, random);
  }
  void attempt(bool is_broken) {
    ASSERT_TRUE(uut.on_acquire());
    uut.on_release(now, is_broken, random);
  }
  random_source random{1};
  time_point now{};
  zone_fsm uut{policy};
};

}  // namespace

TEST_F(zone_life, is_proved_before_it_is_used_for_the_first_time) {
  EXPECT_EQ(uut.state(), zone_state::proving);
  EXPECT_FALSE(uut.on_acquire());
  prove();
  EXPECT_EQ(uut.state(), zone_state::free);
  EXPECT_FALSE(uut.wake().has_value());
}

TEST_F(zone_life, has_one_attempt_at_a_time) {
  prove();
  EXPECT_TRUE(uut.on_acquire());
  EXPECT_FALSE(uut.on_acquire());
  EXPECT_EQ(uut.state(), zone_state::busy);
  uut.on_release(now, false, random);
  EXPECT_TRUE(uut.on_acquire());
}

TEST_F(zone_life, waits_and_is_proved_after_it_broke) {
  prove();
  attempt(true);
  EXPECT_EQ(uut.state(), zone_state::repairing);
  EXPECT_EQ(uut.broken_at(), now);
  prove();
  EXPECT_EQ(uut.state(), zone_state::free);
  EXPECT_EQ(uut.problem(), "");
}

TEST_F(zone_life, is_parked_after_eight_failures_in_a_row_and_tried_all_the_same) {
  prove();
  attempt(true);
  for (unsigned i = 1; i < repair_max; ++i) {
    EXPECT_EQ(uut.state(), zone_state::repairing) << i;
    prove("P3: a process");
  }
  EXPECT_EQ(uut.state(), zone_state::parked);
  EXPECT_EQ(uut.problem(), "P3: a process");
  EXPECT_EQ(uut.broken_at(), time_point{}) << "since the first of them";
  prove();
  EXPECT_EQ(uut.state(), zone_state::free);
}

TEST_F(zone_life, waits_longer_each_time_and_five_minutes_at_most) {
  for (unsigned i = 0; i < 40; ++i) {
    prove("no");
    EXPECT_LE(*uut.wake() - now,
              std::min(policy.max, milliseconds{policy.min.count() << std::min(i, 20u)}));
  }
}

TEST_F(zone_life, ends_the_row_with_an_attempt_that_went_well_and_not_with_a_repair) {
  prove();
  for (unsigned i = 0; i < repair_max; ++i) {
    attempt(true);
    prove();
  }
  EXPECT_EQ(uut.failures(), repair_max) << "each attempt broke it, and no repair did";
  EXPECT_EQ(uut.state(), zone_state::free);
  attempt(false);
  EXPECT_EQ(uut.failures(), 0u);
  EXPECT_EQ(uut.breaks(), repair_max);
}

TEST_F(zone_life, is_tried_at_once_when_a_person_asks) {
  prove();
  attempt(true);
  prove("no");
  uut.on_retry(now);
  EXPECT_EQ(uut.wake(), now);
  prove();
  uut.on_retry(now);
  EXPECT_EQ(uut.state(), zone_state::free) << "what works is left alone";
}

TEST_F(zone_life, is_proved_again_when_it_was_free_while_another_broke) {
  prove();
  uut.on_suspicion(now);
  EXPECT_EQ(uut.state(), zone_state::proving);
  prove();
  EXPECT_TRUE(uut.on_acquire());
  uut.on_suspicion(now);
  EXPECT_EQ(uut.state(), zone_state::busy) << "what runs goes on";
}

TEST_F(zone_life, takes_no_answer_that_it_did_not_ask_for) {
  uut.on_proved(now, "", random);
  EXPECT_EQ(uut.state(), zone_state::proving);
  prove();
  uut.on_release(now, true, random);
  uut.on_proved(now, "no", random);
  EXPECT_EQ(uut.state(), zone_state::free);
}
