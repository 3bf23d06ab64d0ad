#pragma once
// Restart intensity: the times of restarts within the last period.
#include <deque>

#include "config/clock.hpp"

namespace ntrace::supervision {

class restart_window {
public:
  restart_window(unsigned intensity, milliseconds period)
      : intensity_{intensity}, period_{period} {}

  /// Counts a restart at `now` (which never decreases); false when there are now more than the
  /// intensity within the period. One exactly a period old still counts, as in OTP.
  [[nodiscard]] bool count(time_point now) {
    forget(now);
    times_.push_back(now);
    return times_.size() <= intensity_;
  }
  /// Restarts within the period before `now`.
  std::size_t size(time_point now) {
    forget(now);
    return times_.size();
  }
  /// Restarts that are still allowed at `now`.
  unsigned budget_left(time_point now) {
    const auto used = size(now);
    return used >= intensity_ ? 0 : intensity_ - static_cast<unsigned>(used);
  }

private:
  void forget(time_point now) {
    while (!times_.empty() && times_.front() < now - period_) times_.pop_front();
  }
  unsigned intensity_;
  milliseconds period_;
  std::deque<time_point> times_;  ///< At most intensity + 1 entries count, then the owner is gone.
};

}  // namespace ntrace::supervision
