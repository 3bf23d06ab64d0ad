#pragma once
// A flag that one thread raises and that blocking calls of another wait on.
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <memory>

#include "config/file.hpp"

namespace ntrace {

/// Raised once, never lowered. Its descriptor becomes readable when raised, so poll(2) can wait on
/// it beside others. Thread-safe.
class cancellation {
public:
  cancellation() : fd_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)} {}
  void raise() noexcept {
    const std::uint64_t one = 1;
    // The counter cannot overflow before it is readable, which is all that we need.
    [[maybe_unused]] const auto n = ::write(fd_.get(), &one, sizeof one);
  }
  int fd() const noexcept { return fd_.get(); }
  bool is_raised() const noexcept {
    // Not by a read: for a moment others would not see it.
    pollfd raised{fd_.get(), POLLIN, 0};
    return ::poll(&raised, 1, 0) > 0;
  }

private:
  unique_fd fd_;
};

using cancellation_ptr = std::shared_ptr<cancellation>;

}  // namespace ntrace
