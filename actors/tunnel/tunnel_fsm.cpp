#include "actors/tunnel/tunnel_fsm.hpp"

#include <fmt/core.h>
#include <algorithm>
#include <array>
#include <utility>

namespace ntrace::tunnel {
namespace {

using std::chrono::duration_cast;
constexpr milliseconds demand_wait_max{500};
constexpr milliseconds network_heed_interval{1000};
constexpr milliseconds suspend_min{10'000};  // A tick later than this: the machine slept.

}  // namespace

std::string_view to_string(tunnel_state s) {
  static constexpr std::array<std::string_view, 7> names{
      "idle", "dialling", "up", "suspect", "backoff", "parked", "draining"};
  return names[static_cast<std::size_t>(s)];
}

void tunnel_fsm::wake_at(time_point at, tunnel_effects& out) {
  expected_ = std::min(expected_, at);
  out.push_back(wake{at});
}

void tunnel_fsm::enter(time_point now, tunnel_state next, const std::string& reason,
                       tunnel_effects& out) {
  if (state_ == next) return;
  out.push_back(report{state_, next, reason});
  const bool was_live = state_ == tunnel_state::up || state_ == tunnel_state::suspect;
  const bool is_live = next == tunnel_state::up || next == tunnel_state::suspect;
  if (was_live && !is_live) down_since_ = now;
  state_ = next;
}

tunnel_fsm::attempt* tunnel_fsm::find(generation of) {
  const auto at = dials_.find(of);
  if (at != dials_.end()) return &at->second;
  ++stale_;
  return nullptr;
}

bool tunnel_fsm::is_of_live(generation of) {
  if (of == live_ && live_ != 0) return true;
  ++stale_;
  return false;
}

tunnel_effects tunnel_fsm::on_start(time_point now) {
  tunnel_effects out;
  if (state_ != tunnel_state::idle) return out;
  down_since_ = now;
  enter(now, tunnel_state::dialling, "started", out);
  begin_dial(now, out);
  return out;
}

tunnel_effects tunnel_fsm::on_stop(time_point now) {
  tunnel_effects out;
  abandon_dials(out);
  if (live_ != 0) {
    out.push_back(reset_connections{live_});
    out.push_back(abandon{live_});
  }
  live_ = 0;
  drop_standby(out);
  retry_at_.reset();
  drain_until_.reset();
  probe_sent_.reset();
  enter(now, tunnel_state::idle, "stopped", out);
  return out;
}

tunnel_effects tunnel_fsm::on_drain(time_point now) {
  if (live_ == 0 || connections_ == 0) return on_stop(now);
  tunnel_effects out;
  abandon_dials(out);
  drop_standby(out);
  retry_at_.reset();
  drain_until_ = now + options_.drain_deadline;
  enter(now, tunnel_state::draining, "told to drain", out);
  wake_at(*drain_until_, out);
  return out;
}

tunnel_effects tunnel_fsm::on_connections(time_point now, std::size_t count) {
  connections_ = count;
  if (state_ == tunnel_state::draining && count == 0) return on_stop(now);
  return {};
}

tunnel_effects tunnel_fsm::on_probe_answered(time_point now, generation of) {
  tunnel_effects out;
  if (const auto at = dials_.find(of); at != dials_.end()) {
    if (at->second.at != phase::proving) return out;
    measure(duration_cast<std::chrono::microseconds>(now - at->second.since));
    if (state_ == tunnel_state::up) {
      dials_.erase(at);
      standby_ = of;
      standby_asked_.reset();
      standby_probe_ = now + options_.probe_idle_interval;
      wake_at(standby_probe_, out);
    } else if (state_ == tunnel_state::suspect && now < heals_until()) {
      wait_for_healing(now, of, out);
    } else {
      take(now, of, out);
    }
    return out;
  }
  if (of == standby_ && of != 0) {
    standby_asked_.reset();
    standby_probe_ = now + options_.probe_idle_interval;
    wake_at(standby_probe_, out);
    if (state_ == tunnel_state::suspect) take(now, of, out);
    return out;
  }
  if (!is_of_live(of)) return out;
  if (probe_sent_) measure(duration_cast<std::chrono::microseconds>(now - *probe_sent_));
  return on_inbound(now, of);
}

tunnel_effects tunnel_fsm::on_inbound(time_point now, generation of) {
  tunnel_effects out;
  if (dials_.count(of) != 0 || (of == standby_ && of != 0) || !is_of_live(of)) return out;
  last_inbound_ = now;
  if (std::exchange(probe_sent_, std::nullopt)) {
    next_probe_ = now + (is_outstanding_ ? probe_interval() : options_.probe_idle_interval);
    wake_at(next_probe_, out);
  }
  if (state_ == tunnel_state::suspect) {
    abandon_dials(out);
    retry_at_.reset();
    enter(now, tunnel_state::up, "the session answered again", out);
    dial_standby_after(now, standby_soon, out);
  }
  return out;
}

void tunnel_fsm::on_probe_advanced(time_point now, generation of) {
  if (of != live_) return;
  if (probe_sent_) probe_sent_ = now;
  // The server's kernel heard us: what the server says is on its way.
  retransmitted_at_.reset();
}

/// The live session is gone.
void tunnel_fsm::lose(time_point now, const std::string& reason, tunnel_effects& out) {
  const auto of = std::exchange(live_, 0);
  out.push_back(reset_connections{of});
  out.push_back(abandon{of});
  probe_sent_.reset();
  if (state_ == tunnel_state::draining) {
    for (auto& one : on_stop(now)) out.push_back(std::move(one));
    return;
  }
  if (now - up_since_ >= options_.stable_after) failures_ = 0;
  if (standby_ != 0) {
    enter(now, tunnel_state::dialling, reason, out);
    return take(now, standby_, out);
  }
  if (const auto next = ready(); next != 0) {
    enter(now, tunnel_state::dialling, reason, out);
    return take(now, next, out);
  }
  if (!dials_.empty()) return enter(now, tunnel_state::dialling, reason, out);
  fall_back(now, reason, out);
}

tunnel_effects tunnel_fsm::on_session_lost(time_point now, generation of, const std::string& reason,
                                           bool is_damaged) {
  tunnel_effects out;
  if (of == live_) damages_ = is_damaged ? damages_ + 1 : 0;
  if (dials_.count(of) != 0) return on_dial_failed(now, of, dial_failure::transient, reason);
  if (of == standby_ && of != 0)
    lose_standby(now, out);
  else if (is_of_live(of))
    lose(now, reason, out);
  return out;
}

tunnel_effects tunnel_fsm::on_demand(time_point now) {
  tunnel_effects out;
  if (state_ == tunnel_state::backoff && *retry_at_ - now > demand_wait_max) {
    retry_at_ =
        now + milliseconds{random_.below(static_cast<std::uint64_t>(demand_wait_max.count()) + 1)};
    wake_at(*retry_at_, out);
  }
  return out;
}

tunnel_effects tunnel_fsm::on_network_changed(time_point now) {
  tunnel_effects out;
  if (state_ != tunnel_state::backoff) return out;
  // A link that flaps must not make a storm of dials.
  if (now < network_heeded_until_) return on_demand(now);
  network_heeded_until_ = now + network_heed_interval;
  enter(now, tunnel_state::dialling, "the network changed", out);
  begin_dial(now, out);
  return out;
}

tunnel_effects tunnel_fsm::on_retry(time_point now) {
  tunnel_effects out;
  if (state_ == tunnel_state::parked) {
    failures_ = 0;
    enter(now, tunnel_state::dialling, "told to try again", out);
    begin_dial(now, out);
  }
  return out;
}

tunnel_effects tunnel_fsm::on_outstanding(time_point now, bool is_outstanding) {
  tunnel_effects out;
  is_outstanding_ = is_outstanding;
  if (!is_outstanding || state_ != tunnel_state::up || probe_sent_) return out;
  const auto at = std::max(now, last_inbound_ + probe_interval());
  if (at >= next_probe_) return out;
  next_probe_ = at;
  wake_at(at, out);
  return out;
}

void tunnel_fsm::send_probe(time_point now, tunnel_effects& out) {
  probe_sent_ = now;
  out.push_back(probe{live_});
  wake_at(now + probe_deadline(), out);
}

tunnel_effects tunnel_fsm::on_tick(time_point now) {
  tunnel_effects out;
  const bool has_slept = expected_ != time_point::max() && now - expected_ > suspend_min;
  if (now >= expected_) expected_ = time_point::max();
  if (state_ == tunnel_state::draining) {
    if (now >= *drain_until_) return on_stop(now);
    wake_at(*drain_until_, out);
    return out;
  }
  // A session that authenticated and does not answer its first probe has failed as a dial.
  for (const auto& [of, a] : std::map{dials_})
    if (a.at == phase::proving && now >= a.since + probe_deadline()) {
      out.push_back(abandon{of});
      for (auto& one :
           on_dial_failed(now, of, dial_failure::transient, "no answer to the first probe"))
        out.push_back(std::move(one));
    }
  // A server that accepts and says nothing keeps its place; another is asked beside it.
  const bool are_silent =
      !dials_.empty() && std::all_of(dials_.begin(), dials_.end(), [&](const auto& d) {
        return d.second.at == phase::silent && now >= d.second.since + silent_before_next;
      });
  if (are_silent && dials_.size() < silent_dials_max) begin_dial(now, out);
  if (retry_at_ && now >= *retry_at_) {
    if (state_ != tunnel_state::suspect) enter(now, tunnel_state::dialling, "next try", out);
    begin_dial(now, out);
  }
  if (state_ == tunnel_state::up) {
    const bool is_silent = probe_sent_ && now >= *probe_sent_ + probe_deadline();
    if (is_silent || has_slept) {
      suspect_since_ = now;
      enter(now, tunnel_state::suspect,
            is_silent ? fmt::format("silent since {} ms",
                                    duration_cast<milliseconds>(now - last_inbound_).count())
                      : "the machine slept",
            out);
      if (dials_.empty()) begin_dial(now, out);
      if (standby_ != 0 && !standby_asked_) standby_probe_ = now;
      if (!is_silent) send_probe(now, out);
    } else if (!probe_sent_ && now >= next_probe_) {
      send_probe(now, out);
    }
  }
  if (state_ == tunnel_state::suspect && now >= suspect_since_ + options_.suspect_grace)
    lose(now, "silent for the whole grace", out);
  if (const auto next = ready(); next != 0 && now >= heals_until()) take(now, next, out);
  keep_standby(now, out);
  // Whatever was due is done; the next thing that is due has a wake of its own again.
  std::optional<time_point> next;
  const auto due = [&](time_point at) { next = next ? std::min(*next, at) : at; };
  if (retry_at_) due(*retry_at_);
  if (standby_dial_at_) due(*standby_dial_at_);
  if (standby_ != 0) due(standby_asked_ ? *standby_asked_ + probe_deadline() : standby_probe_);
  if (state_ == tunnel_state::up) due(probe_sent_ ? *probe_sent_ + probe_deadline() : next_probe_);
  if (state_ == tunnel_state::suspect) due(suspect_since_ + options_.suspect_grace);
  for (const auto& [of, a] : dials_) {
    if (a.at == phase::proving) due(a.since + probe_deadline());
    // Often, because retransmissions are told of at a tick.
    if (a.at == phase::ready) due(std::min(heals_until(), now + probe_interval()));
    if (a.at == phase::silent && dials_.size() < silent_dials_max)
      due(std::max(now + milliseconds{1}, a.since + silent_before_next));
  }
  if (next) wake_at(*next, out);
  return out;
}

}  // namespace ntrace::tunnel
