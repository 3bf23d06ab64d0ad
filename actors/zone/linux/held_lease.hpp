#pragma once
// The lease that a zone was booted for, as its init holds it. docs/zones.md, "The lease".
#include <sys/timerfd.h>
#include <unistd.h>

#include "actors/zone/linux/lease_page.hpp"

namespace ntrace::zone {

/// In zone init: ends the zone when its lease is over. The watchdog outside does, too: each holds
/// it alone when the other is stopped.
class held_lease {
public:
  int timer() const { return timer_; }
  void take(int fd) {
    page_ = lease_page::map(fd);
    timer_ = ::timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (page_ == nullptr || timer_ < 0) _exit(1);
    look();
  }
  void look() const {
    const auto until = page_->until();
    if (boot_clock::now() >= until) _exit(0);
    if (!arm(timer_, until)) _exit(1);
  }

private:
  const lease_page* page_ = nullptr;
  int timer_ = -1;
};

}  // namespace ntrace::zone
