// Work handed to a thread that waits for its sockets.
#include <gtest/gtest.h>
#include <poll.h>

#include <thread>

#include "net/task_queue.hpp"

using namespace ntrace;

namespace {

bool is_woken(const net::task_queue& of) {
  pollfd at{of.fd(), POLLIN, 0};
  return ::poll(&at, 1, 0) == 1;
}

}  // namespace

TEST(task_queue, wakes_only_who_said_that_it_would_wait) {
  net::task_queue uut;
  uut.post([] {});
  EXPECT_FALSE(is_woken(uut));
  EXPECT_TRUE(uut.about_to_wait()) << "there is work: a thread that waits now would not be woken";
  EXPECT_EQ(uut.take().size(), 1u);
  EXPECT_FALSE(uut.about_to_wait());
  uut.post([] {});
  uut.post([] {});
  EXPECT_TRUE(is_woken(uut));
  EXPECT_EQ(uut.take().size(), 2u);
  EXPECT_FALSE(is_woken(uut)) << "one wake-up is for all of them";
}

TEST(task_queue, keeps_the_order) {
  net::task_queue uut;
  std::string done;
  for (const char c : {'a', 'b', 'c'}) uut.post([&done, c] { done += c; });
  for (auto& task : uut.take()) task();
  EXPECT_EQ(done, "abc");
}

TEST(task_queue, takes_nothing_more_once_it_is_closed_and_drops_what_waits) {
  net::task_queue uut;
  auto kept = std::make_shared<int>(1);
  // What ends with a dropped task may post again.
  struct poster {
    net::task_queue* to;
    std::shared_ptr<int> held;
    ~poster() {
      EXPECT_FALSE(to->post([] {}));
    }
  };
  uut.post([p = std::shared_ptr<poster>(new poster{&uut, kept})] {});
  uut.close();
  EXPECT_EQ(kept.use_count(), 1);
  EXPECT_FALSE(uut.post([] {}));
  EXPECT_TRUE(uut.take().empty());
}

TEST(task_queue, loses_nothing_between_a_look_and_a_wait) {
  net::task_queue uut;
  constexpr int count = 20'000;
  int done = 0;
  std::thread poster{[&] {
    for (int i = 0; i < count; ++i) uut.post([&done] { ++done; });
  }};
  while (done < count) {
    pollfd at{uut.fd(), POLLIN, 0};
    if (!uut.about_to_wait()) {
      ASSERT_EQ(::poll(&at, 1, 10'000), 1) << "after " << done;
    }
    for (auto& task : uut.take()) task();
  }
  poster.join();
  EXPECT_EQ(done, count);
}
