#pragma once
// The page of memory in which the end of a lease stands. The runner writes it; zone init and the
// zone's watchdog read it, each in a mapping of its own. So nothing has to arrive, and a runner
// that is stopped renews nothing.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>

namespace ntrace::zone {

/// Counts while the machine is suspended, too; nobody can set it; all processes of a machine share
/// it, for zones have no time namespace. It is read, and timers are set by it, by system calls
/// alone: a preloaded library that fakes the time must not move the end of a lease.
struct boot_clock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<boot_clock>;
  static constexpr bool is_steady = true;
  static time_point now() noexcept {
    timespec t{};
    ::syscall(SYS_clock_gettime, CLOCK_BOOTTIME, &t);
    return time_point{std::chrono::seconds{t.tv_sec} + std::chrono::nanoseconds{t.tv_nsec}};
  }
};

inline timespec to_timespec(boot_clock::time_point at) {
  const auto ns = at.time_since_epoch().count();
  return {static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
}

/// Arms a timerfd of CLOCK_BOOTTIME; false when the kernel refuses it.
inline bool arm(int timer, boot_clock::time_point at) {
  itimerspec value{};
  value.it_value = to_timespec(at);
  return ::syscall(SYS_timerfd_settime, timer, TFD_TIMER_ABSTIME, &value, nullptr) == 0;
}

class lease_page {
public:
  static constexpr std::size_t bytes = 4096;
  /// The page that `fd` holds, to be read as long as the process lives; null when it cannot be.
  static const lease_page* map(int fd) {
    void* at = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
    return at == MAP_FAILED ? nullptr : static_cast<const lease_page*>(at);
  }
  boot_clock::time_point until() const {
    return boot_clock::time_point{boot_clock::duration{until_ns_.load()}};
  }
  void set(boot_clock::time_point until) { until_ns_ = until.time_since_epoch().count(); }

private:
  std::atomic<std::int64_t> until_ns_{0};
  static_assert(std::atomic<std::int64_t>::is_always_lock_free);
};

}  // namespace ntrace::zone
