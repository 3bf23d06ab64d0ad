#pragma once
// What a test, a benchmark or `ntrace chaos` started does not outlive it, not even when it is
// killed: a guardian waits for its end and then kills what still runs.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <span>
#include <sstream>
#include <string>
#include <string_view>

#include "config/file.hpp"
#include "config/subprocess.hpp"

namespace ntrace::test {

/// A process of its own that is told the pids of the others over a socket, whose end is ours.
class guardian {
public:
  /// `pid` leads a process group, and is a child of ours that was not waited for yet.
  static void guard(int pid) {
    static const unique_fd told = start();
    // Without a guardian the program goes on all the same.
    [[maybe_unused]] const auto sent = ::send(told.get(), &pid, sizeof pid, MSG_NOSIGNAL);
  }

private:
  struct guarded {
    int pid = 0, process = -1;
  };
  using guarded_ones = std::array<guarded, 256>;  ///< More at a time are not guarded.

  static unique_fd start() {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) return {};
    // Not that of a thread that has moved into another, which would never end.
    const unique_fd network{::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)};
    const auto words = command_line();
    if (::fork() == 0) {
      ::setns(network.get(), CLONE_NEWNET);
      // A kill of ours by its name must not kill the guardian, too.
      constexpr std::string_view name{"guardian"};
      ::prctl(PR_SET_NAME, name.data());
      std::fill(words.begin(), words.end(), '\0');
      std::copy_n(name.begin(), std::min(name.size(), words.size()), words.begin());
      watch(ends[0]);
    }
    ::close(ends[0]);
    return unique_fd{ends[1]};
  }
  /// The memory that `ps` shows; proc(5), fields 48 and 49 of /proc/self/stat.
  static std::span<char> command_line() {
    const auto stat = read_file("/proc/self/stat").value_or("");
    std::istringstream rest{stat.substr(std::min(stat.rfind(')') + 1, stat.size()))};
    std::string skipped;
    for (int field = 3; field < 48; ++field) rest >> skipped;
    std::uintptr_t begin = 0, end = 0;
    if (!(rest >> begin >> end) || end < begin) return {};
    return {reinterpret_cast<char*>(begin), end - begin};
  }
  /// Of a process that may have had threads: only what is safe in a signal handler.
  [[noreturn]] static void watch(int told) {
    ::setsid();
    if (told > 0) ::syscall(SYS_close_range, 0u, static_cast<unsigned>(told) - 1, 0u);
    ::syscall(SYS_close_range, static_cast<unsigned>(told) + 1, ~0u, 0u);
    guarded_ones all{};
    std::size_t count = 0;
    for (int pid = 0;;) {
      const auto got = ::read(told, &pid, sizeof pid);
      if (got < 0 && errno == EINTR) continue;
      if (got != sizeof pid) break;
      count = forget_dead(all, count);
      if (count == all.size()) continue;
      const int process = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
      if (process >= 0) all[count++] = {pid, process};
    }
    count = forget_dead(all, count);
    if (count == 0) ::_exit(0);
    for (std::size_t i = 0; i < count; ++i)
      ::syscall(SYS_pidfd_send_signal, all[i].process, SIGKILL, nullptr, 0u);
    // A runner's helper then ends its zones and itself.
    ::poll(nullptr, 0, 3000);
    // Their numbers are not given out again so soon.
    for (std::size_t i = 0; i < count; ++i) ::kill(-all[i].pid, SIGKILL);
    ::_exit(0);
  }
  static std::size_t forget_dead(guarded_ones& all, std::size_t count) {
    for (std::size_t i = 0; i < count;) {
      pollfd ended{all[i].process, POLLIN, 0};
      if (::poll(&ended, 1, 0) == 0) {
        ++i;
        continue;
      }
      ::close(all[i].process);
      all[i] = all[--count];
    }
    return count;
  }
};

/// spawn_subprocess(), whose process ends with ours.
inline result<int> spawn_guarded(const subprocess_spec& spec, int in, int out, int err) {
  auto pid = spawn_subprocess(spec, in, out, err);
  if (pid) guardian::guard(*pid);
  return pid;
}

}  // namespace ntrace::test
