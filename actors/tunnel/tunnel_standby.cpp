// The second session that a tunnel may keep ready.
#include <utility>

#include "actors/tunnel/tunnel_fsm.hpp"

namespace ntrace::tunnel {

void tunnel_fsm::dial_standby_after(time_point now, milliseconds least, tunnel_effects& out) {
  if (!options_.standby || standby_ != 0) return;
  // Jittered, so that it is never dialled in step with the main one.
  standby_dial_at_ =
      now + least + milliseconds{random_.below(static_cast<std::uint64_t>(least.count()) + 1)};
  wake_at(*standby_dial_at_, out);
}

void tunnel_fsm::lose_standby(time_point now, tunnel_effects& out) {
  standby_ = 0;
  standby_asked_.reset();
  dial_standby_after(now, standby_soon, out);
}

/// Dials the standby, asks it whether it lives, gives it up when it does not say so.
void tunnel_fsm::keep_standby(time_point now, tunnel_effects& out) {
  if (standby_dial_at_ && now >= *standby_dial_at_) {
    standby_dial_at_.reset();
    if (state_ == tunnel_state::up && standby_ == 0 && dials_.empty()) begin_dial(now, out);
  }
  if (standby_ == 0) return;
  if (standby_asked_ && now >= *standby_asked_ + probe_deadline()) {
    out.push_back(abandon{standby_});
    lose_standby(now, out);
  } else if (!standby_asked_ && now >= standby_probe_) {
    standby_asked_ = now;
    out.push_back(probe{standby_});
  }
}

void tunnel_fsm::drop_standby(tunnel_effects& out) {
  if (standby_ != 0) out.push_back(abandon{std::exchange(standby_, 0)});
  standby_asked_.reset();
  standby_dial_at_.reset();
}

}  // namespace ntrace::tunnel
