#pragma once
// A flag that one thread raises and that blocking calls of another wait on.
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
    // An eventfd keeps its value until read; a peek is a poll without wait.
    std::uint64_t value = 0;
    if (::read(fd_.get(), &value, sizeof value) != sizeof value) return false;
    [[maybe_unused]] const auto n = ::write(fd_.get(), &value, sizeof value);
    return true;
  }

private:
  unique_fd fd_;
};

using cancellation_ptr = std::shared_ptr<cancellation>;

}  // namespace ntrace
