#include "actors/zone/job_input.hpp"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <ctime>

namespace ntrace::zone {
namespace {

/// write(2), to a program that may be gone: without SIGPIPE, which would end us instead of it.
ssize_t write_quietly(int fd, const std::string& data) {
  sigset_t pipe, before, pending;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  sigpending(&pending);
  ::pthread_sigmask(SIG_BLOCK, &pipe, &before);
  const auto n = ::write(fd, data.data(), data.size());
  const int why = errno;
  constexpr timespec at_once{};
  if (n < 0 && why == EPIPE && sigismember(&pending, SIGPIPE) == 0)
    ::sigtimedwait(&pipe, nullptr, &at_once);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = why;
  return n;
}

}  // namespace

void job_input::pass_on() {
  if (waiting_.empty()) {
    std::array<char, 65536> block;
    const auto n = ::read(from_, block.data(), block.size());
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (n < 0) failed_ = io_error("read", "the standard input", errno);
    if (n <= 0) return close();
    waiting_.assign(block.data(), static_cast<std::size_t>(n));
  }
  const auto n = write_quietly(to_.get(), waiting_);
  if (n < 0 && errno != EINTR && errno != EAGAIN) return close();  // Nobody reads any more.
  if (n > 0) waiting_.erase(0, static_cast<std::size_t>(n));
}

}  // namespace ntrace::zone
