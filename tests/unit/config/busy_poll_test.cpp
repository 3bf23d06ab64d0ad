// When a thread looks for its next work before it sleeps.
#include <gtest/gtest.h>

#include "config/busy_poll.hpp"

using namespace ntrace;
using namespace std::chrono_literals;

TEST(busy_poll, looks_only_while_work_follows_work) {
  busy_poll uut{2};
  const time_point now{1h};
  EXPECT_FALSE(uut.begin(now)) << "after a long rest nothing tells that more will follow";
  EXPECT_TRUE(uut.begin(now + 500us));
  EXPECT_TRUE(uut.goes_on(now + 600us));
  uut.found();
  EXPECT_FALSE(uut.goes_on(now + 600us));
  EXPECT_FALSE(uut.begin(now + 5ms));
}

TEST(busy_poll, never_looks_on_a_single_cpu) {
  busy_poll uut{1};
  const time_point now{1h};
  uut.begin(now);
  EXPECT_FALSE(uut.begin(now));
}

TEST(busy_poll, gives_up_for_a_while_when_nothing_came_in_time) {
  busy_poll uut{2};
  time_point now{1h};
  uut.begin(now);
  ASSERT_TRUE(uut.begin(now));
  EXPECT_FALSE(uut.goes_on(now + 1ms));
  EXPECT_FALSE(uut.goes_on(now)) << "it is over";
  EXPECT_EQ(uut.missed(), 1);
  int skipped = 0;
  while (!uut.begin(now += 10us)) ASSERT_LT(++skipped, 100);
  EXPECT_GE(skipped, 5);
}
