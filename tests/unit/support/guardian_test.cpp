// What the tests stand on: that nothing outlives them.
#include "tests/support/guardian.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>

using namespace ntrace;
using namespace ntrace::test;

TEST(guardian, ends_what_a_killed_process_started) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const int parent = ::fork();
  if (parent == 0) {
    subprocess_spec spec;
    spec.argv = {"sleep", "1000"};
    const auto pids = {spawn_guarded(spec, -1, -1, -1), spawn_guarded(spec, -1, -1, -1)};
    for (const auto& pid : pids)
      if (::write(ends[1], &*pid, sizeof *pid) != sizeof *pid) ::_exit(1);
    ::pause();
  }
  ::close(ends[1]);  // So that the end of a parent that fails is seen.
  std::array<int, 2> pids{};
  for (auto& pid : pids) ASSERT_EQ(::read(ends[0], &pid, sizeof pid), ssize_t{sizeof pid});
  std::array<pollfd, 2> ended{};
  for (std::size_t i = 0; i < pids.size(); ++i)
    ended[i] = {static_cast<int>(::syscall(SYS_pidfd_open, pids[i], 0)), POLLIN, 0};
  EXPECT_EQ(::poll(ended.data(), ended.size(), 0), 0) << "while their parent lives";
  ::kill(parent, SIGKILL);
  ASSERT_EQ(::waitpid(parent, nullptr, 0), parent);
  for (auto& one : ended) {
    EXPECT_EQ(::poll(&one, 1, 10'000), 1);
    ::close(one.fd);
  }
  ::close(ends[0]);
}
