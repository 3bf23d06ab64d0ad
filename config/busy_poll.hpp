#pragma once
// Whether a thread looks for its next work a moment longer before it sleeps. To wake one on another
// CPU takes some 20 µs, and a push has four such ways: to the port's thread, to the journal's, and
// back. With 16 clients in a row that is a quarter of their time. Pure.
#include <cstdint>

#include "config/clock.hpp"

namespace ntrace {

class busy_poll {
public:
  /// `cpus`: that the process may use. On a single one it would only be in the other's way.
  explicit busy_poll(unsigned cpus) : is_useful_{cpus > 1} {}

  /// Work was done, and more may follow at once. True: look for it until goes_on() says no or
  /// found() was called. Only while work follows work.
  bool begin(time_point now) {
    const bool is_in_a_row = now - last_ <= row_gap;
    last_ = now;
    end_ = now + lasts;
    if (!is_useful_ || !is_in_a_row) return is_polling_ = false;
    if (skips_ > 0) {
      --skips_;
      return is_polling_ = false;
    }
    return is_polling_ = true;
  }
  /// False when nothing came in time: then the next times are not worth it either.
  bool goes_on(time_point now) {
    if (!is_polling_) return false;
    if (now < end_) return true;
    is_polling_ = false;
    skips_ = skips_after_miss;
    ++missed_;
    return false;
  }
  void found() { is_polling_ = false; }
  /// How often nothing came in time.
  std::int64_t missed() const { return missed_; }

private:
  static constexpr std::chrono::microseconds lasts{300}, row_gap{1000};
  static constexpr unsigned skips_after_miss = 8;

  bool is_useful_;
  time_point last_{}, end_{};
  unsigned skips_ = 0;
  std::int64_t missed_ = 0;
  bool is_polling_ = false;
};

}  // namespace ntrace
