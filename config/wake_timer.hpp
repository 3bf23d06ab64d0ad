#pragma once
#include "config/clock.hpp"
#include "config/mutation.hpp"

namespace ntrace {

/// The one moment at which the owner of a state machine looks again. A machine asks for a wake
/// whenever something becomes due, and again at each tick; were each of these a timer of its own,
/// every tick would leave others behind, and they would multiply for as long as anything is due.
class wake_timer {
public:
  /// True when `when` comes before what is set: the caller arranges for a tick at that time.
  bool set(time_point when) {
    if (when >= at_ && !mutated(mutation::ticks_multiply)) return false;
    at_ = when;
    return true;
  }
  /// A tick came. False for one that an earlier moment took the place of: there is nothing to do,
  /// and another tick is to come. Else the machine is to look, and to set the next.
  bool ring(time_point now) {
    // Timers may come early by what they round.
    if (now + milliseconds{1} < at_ && !mutated(mutation::ticks_multiply)) return false;
    at_ = time_point::max();
    return true;
  }

private:
  time_point at_ = time_point::max();
};

}  // namespace ntrace
