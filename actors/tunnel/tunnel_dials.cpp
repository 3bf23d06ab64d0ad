// The way from a dial to a session that answers.
#include <algorithm>
#include <utility>

#include "actors/tunnel/tunnel_fsm.hpp"

namespace ntrace::tunnel {
namespace {

constexpr milliseconds damage_wait{30'000};
constexpr unsigned mismatches_max = 2;

}  // namespace

void tunnel_fsm::begin_dial(time_point now, tunnel_effects& out) {
  retry_at_.reset();
  dials_[next_] = {phase::connecting, now, now};
  out.push_back(dial{next_++, address_});
}

void tunnel_fsm::abandon_dials(tunnel_effects& out) {
  for (const auto& [of, a] : dials_) out.push_back(abandon{of});
  dials_.clear();
}

/// No session and no dial under way: wait, then dial.
void tunnel_fsm::fall_back(time_point now, const std::string& reason, tunnel_effects& out) {
  const auto wait = next_wait(now);
  retry_at_ = now + (damages_ >= damages_max ? damage_wait : wait);
  enter(now, tunnel_state::backoff, reason, out);
  wake_at(*retry_at_, out);
}

tunnel_effects tunnel_fsm::on_connected(time_point now, generation of,
                                        std::chrono::microseconds round_trip, unsigned address) {
  tunnel_effects out;
  auto* a = find(of);
  if (!a) return out;
  address_ = address;
  if (!srtt_ms_) measure(round_trip);
  *a = {phase::silent, now, a->began};
  wake_at(now + silent_before_next, out);
  return out;
}

tunnel_effects tunnel_fsm::on_banner(time_point now, generation of) {
  tunnel_effects out;
  auto* a = find(of);
  if (!a) return out;
  const attempt talking{phase::talking, now, a->began};
  for (const auto& [other, b] : dials_)
    if (other != of) out.push_back(abandon{other});
  dials_ = {{of, talking}};
  return out;
}

tunnel_effects tunnel_fsm::on_authenticated(time_point now, generation of) {
  tunnel_effects out;
  auto* a = find(of);
  if (!a) return out;
  *a = {phase::proving, now, a->began};
  out.push_back(probe{of});
  wake_at(now + probe_deadline(), out);
  return out;
}

tunnel_effects tunnel_fsm::on_dial_failed(time_point now, generation of, dial_failure how,
                                          const std::string& reason) {
  tunnel_effects out;
  const auto* failed = find(of);
  if (!failed) return out;
  const auto began = failed->began;
  dials_.erase(of);
  ++address_;
  mismatches_ = how == dial_failure::mismatch ? mismatches_ + 1 : 0;
  // A single one may be a byte that was damaged on its way.
  const bool is_settled = how == dial_failure::mismatch ? mismatches_ >= mismatches_max
                                                        : how != dial_failure::transient;
  if (state_ == tunnel_state::up) {  // It would have been the standby.
    dial_standby_after(now, standby_later, out);
    return out;
  }
  if (is_settled && live_ == 0) {
    park(now, how != dial_failure::needs_operator, reason, out);
    return out;
  }
  if (!dials_.empty()) return out;  // One beside it goes on.
  if (live_ != 0) {                 // Beside a suspect session.
    // Nobody answered: the path may be back any moment, and the dial itself was the wait. Who did
    // answer, with a refusal, is asked as after any failure.
    const bool was_silent = now >= began + connect_deadline();
    retry_at_ = now + (was_silent ? milliseconds{random_.below(static_cast<std::uint64_t>(
                                        options_.backoff_min.count() + 1))}
                                  : std::max(next_wait(now), options_.backoff_min));
    wake_at(*retry_at_, out);
    return out;
  }
  fall_back(now, reason, out);
  return out;
}

/// Dialling again cannot help, or only after a while.
void tunnel_fsm::park(time_point now, bool is_retried, const std::string& reason,
                      tunnel_effects& out) {
  abandon_dials(out);
  ++failures_;
  retry_at_.reset();
  enter(now, tunnel_state::parked, reason, out);
  if (!is_retried) return;
  const auto part = options_.parked_retry.count() / 5;
  const auto spread = random_.below(static_cast<std::uint64_t>(2 * part) + 1);
  retry_at_ = now + options_.parked_retry - milliseconds{part} + milliseconds{spread};
  wake_at(*retry_at_, out);
}

generation tunnel_fsm::ready() const {
  const auto at = std::find_if(dials_.begin(), dials_.end(),
                               [](const auto& d) { return d.second.at == phase::ready; });
  return at == dials_.end() ? 0 : at->first;
}

/// Until then a suspect session may heal though another could take over.
time_point tunnel_fsm::heals_until() const {
  const auto latest = last_inbound_ + options_.heal_patience;
  if (retransmits_at_ && *retransmits_at_ > latest) return last_inbound_;  // Too late to wait for.
  return retransmitted_at_ ? std::min(latest, *retransmitted_at_ + answer_wait()) : latest;
}

/// The session `of` is proved to work, and the suspect one may still be healed by TCP.
void tunnel_fsm::wait_for_healing(time_point now, generation of, tunnel_effects& out) {
  dials_[of].at = phase::ready;
  retransmissions_.reset();
  retransmitted_at_.reset();
  retransmits_at_.reset();
  wake_at(now, out);  // What TCP does is told before each tick.
}

void tunnel_fsm::on_retransmissions(time_point now, generation of, std::uint64_t count,
                                    std::optional<time_point> next) {
  if (of != live_ || !is_healing()) return;
  retransmits_at_ = next;
  if (!retransmissions_) retransmissions_ = count;
  if (count > *retransmissions_) {
    retransmissions_ = count;
    if (!retransmitted_at_) retransmitted_at_ = now;
  }
}

/// The session `of` is proved to work: it is the tunnel now.
void tunnel_fsm::take(time_point now, generation of, tunnel_effects& out) {
  dials_.erase(of);
  if (of == standby_) {
    standby_ = 0;
    standby_asked_.reset();
  }
  abandon_dials(out);
  const auto old = std::exchange(live_, of);
  out.push_back(switch_to{of});
  if (old != 0) {
    out.push_back(reset_connections{old});
    out.push_back(abandon{old});
  }
  up_since_ = last_inbound_ = now;
  mismatches_ = 0;
  retransmitted_at_.reset();
  retransmits_at_.reset();
  probe_sent_.reset();
  retry_at_.reset();
  next_probe_ = now + (is_outstanding_ ? probe_interval() : options_.probe_idle_interval);
  enter(now, tunnel_state::up, old != 0 ? "a new session answered first" : "the session answered",
        out);
  wake_at(next_probe_, out);
  dial_standby_after(now, standby_soon, out);
}

}  // namespace ntrace::tunnel
