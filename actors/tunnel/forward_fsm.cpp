#include "actors/tunnel/forward_fsm.hpp"

#include <algorithm>
#include <utility>

#include "config/mutation.hpp"

namespace ntrace::tunnel {

forward_fsm::connection* forward_fsm::find(connection_id of, phase at) {
  const auto found = connections_.find(of);
  return found != connections_.end() && found->second.at == at ? &found->second : nullptr;
}

std::size_t forward_fsm::held() const {
  return static_cast<std::size_t>(
      std::count_if(connections_.begin(), connections_.end(),
                    [](const auto& c) { return c.second.at == phase::held; }));
}

bool forward_fsm::is_outstanding() const {
  return std::any_of(connections_.begin(), connections_.end(), [](const auto& c) {
    return c.second.at != phase::open || c.second.to_channel.given > 0;
  });
}

forward_fsm::iterator forward_fsm::drop(iterator at) {
  auto& c = at->second;
  bytes_ -= c.waiting.size() + c.to_channel.given + c.to_local.given;
  opening_.erase(at->first);
  return connections_.erase(at);
}

forward_fsm::iterator forward_fsm::reset(iterator at, const std::string& reason,
                                         forward_effects& out) {
  if (!at->second.is_local_gone) out.push_back(close_local{at->first, true, reason});
  return drop(at);
}

void forward_fsm::open_next(forward_effects& out) {
  if (live_ == 0) return;
  for (auto at = connections_.begin();
       at != connections_.end() && opening_.size() < options_.opening_max; ++at) {
    if (at->second.at != phase::held) continue;
    at->second.at = phase::opening;
    at->second.over = opening_over_ = live_;
    opening_.insert(at->first);
    out.push_back(open_channel{at->first});
  }
}

forward_effects forward_fsm::on_session(time_point, generation live) {
  forward_effects out;
  if (std::exchange(live_, live) != live) opening_.clear();
  open_next(out);
  return out;
}

forward_effects forward_fsm::on_session_lost(time_point now, generation lost) {
  forward_effects out;
  if (live_ == lost) live_ = 0;
  if (opening_over_ == lost) opening_.clear();
  for (auto at = connections_.begin(); at != connections_.end();) {
    auto& c = at->second;
    if (c.at == phase::held || c.over != lost) {
      ++at;
    } else if (c.at == phase::opening || mutated(mutation::held_bytes_into_new_session)) {
      // Nothing of it has left yet: it waits for the next session.
      c.at = phase::held;
      c.until = now + options_.held_max;
      out.push_back(look_again{c.until});
      ++at;
    } else {
      at = reset(at, "the tunnel's session was lost", out);
    }
  }
  open_next(out);
  return out;
}

forward_effects forward_fsm::on_accepted(time_point now, connection_id of) {
  forward_effects out;
  const bool is_full = connections_.size() >= options_.connections_max ||
                       (live_ == 0 && held() >= options_.held_connections_max);
  if (is_full) {
    out.push_back(close_local{
        of, true,
        std::to_string(connections_.size()) + " connections wait for the tunnel already"});
    return out;
  }
  auto& c = connections_[of];
  c.until = now + options_.held_max;
  open_next(out);
  if (c.at == phase::held) out.push_back(look_again{c.until});
  return out;
}

forward_effects forward_fsm::on_channel_accepted(time_point now, connection_id of,
                                                 generation over) {
  forward_effects out;
  if (over != live_ || connections_.size() >= options_.connections_max) {
    out.push_back(close_channel{of});
    out.push_back(close_local{of, true, "there are too many connections already"});
    return out;
  }
  auto& c = connections_[of];
  c.at = phase::open;
  c.over = over;
  c.until = now;
  return out;
}

forward_effects forward_fsm::on_local_bytes(time_point, connection_id of, std::string data) {
  forward_effects out;
  const auto at = connections_.find(of);
  if (at == connections_.end() || at->second.at == phase::closing) return out;
  auto& c = at->second;
  bytes_ += data.size();
  if (c.at == phase::open) {
    const bool stop = give(c.to_channel, data.size());
    out.push_back(write_channel{of, std::move(data)});
    if (stop) out.push_back(stop_local{of});
    return out;
  }
  c.waiting += data;
  if (c.waiting.size() >= options_.held_bytes_max && !std::exchange(c.to_channel.is_stopped, true))
    out.push_back(stop_local{of});
  return out;
}

forward_effects forward_fsm::on_opened(time_point, connection_id of) {
  forward_effects out;
  opening_.erase(of);
  if (auto* c = find(of, phase::opening)) {
    c->at = phase::open;
    c->to_channel.given += c->waiting.size();
    if (!c->waiting.empty()) out.push_back(write_channel{of, std::exchange(c->waiting, {})});
    if (c->local_ended) out.push_back(end_channel{of});
  } else if (connections_.count(of) == 0) {
    out.push_back(close_channel{of});  // Its client has left.
  }
  open_next(out);
  return out;
}

forward_effects forward_fsm::on_open_refused(time_point, connection_id of,
                                             const std::string& reason) {
  forward_effects out;
  opening_.erase(of);
  if (find(of, phase::opening)) reset(connections_.find(of), reason, out);
  open_next(out);
  return out;
}

/// The bound of one direction: each of many connections has its fair share of the total.
std::size_t forward_fsm::buffer_bytes() const {
  constexpr std::size_t least = 16u << 10;
  const auto share = options_.buffers_total_bytes / (2 * std::max<std::size_t>(size(), 1));
  return std::min(options_.channel_buffer_bytes, std::max(share, least));
}

/// True when the side that fills this flow may be read again.
bool forward_fsm::take(connection& c, flow& f, std::size_t bytes) {
  const auto taken = std::min(bytes, f.given);
  f.given -= taken;
  bytes_ -= taken;
  return c.at == phase::open && f.given <= buffer_bytes() / 2 && std::exchange(f.is_stopped, false);
}

/// True when the side that fills this flow must not be read for now.
bool forward_fsm::give(flow& f, std::size_t bytes) {
  f.given += bytes;
  return f.given >= buffer_bytes() && !std::exchange(f.is_stopped, true);
}

forward_effects forward_fsm::on_channel_took(time_point now, connection_id of, std::size_t bytes) {
  const auto at = connections_.find(of);
  if (at == connections_.end()) return {};
  // What it still takes is no leak.
  if (at->second.at == phase::closing) at->second.until = now + options_.closing_max;
  if (!take(at->second, at->second.to_channel, bytes)) return {};
  return {read_local{of}};
}

forward_effects forward_fsm::on_local_took(time_point, connection_id of, std::size_t bytes) {
  const auto at = connections_.find(of);
  if (at == connections_.end() || !take(at->second, at->second.to_local, bytes)) return {};
  return {read_channel{of}};
}

forward_effects forward_fsm::on_channel_bytes(time_point, connection_id of, std::string data) {
  forward_effects out;
  auto* c = find(of, phase::open);
  if (!c || c->is_local_gone) return out;
  bytes_ += data.size();
  const bool stop = give(c->to_local, data.size());
  out.push_back(write_local{of, std::move(data)});
  if (stop) out.push_back(stop_channel{of});
  return out;
}

void forward_fsm::begin_close(time_point now, iterator at, forward_effects& out) {
  at->second.at = phase::closing;
  at->second.until = now + options_.closing_max;
  out.push_back(close_channel{at->first});
  out.push_back(look_again{at->second.until});
}

void forward_fsm::close_when_both_ended(time_point now, connection_id of, forward_effects& out) {
  const auto at = connections_.find(of);
  if (!at->second.local_ended || !at->second.channel_ended) return;
  out.push_back(close_local{of, false, "both sides have finished"});
  at->second.is_local_gone = true;
  begin_close(now, at, out);
}

forward_effects forward_fsm::on_local_end(time_point now, connection_id of) {
  forward_effects out;
  const auto at = connections_.find(of);
  if (at == connections_.end() || std::exchange(at->second.local_ended, true)) return out;
  if (at->second.at != phase::open) return out;  // Said once the channel is there.
  out.push_back(end_channel{of});
  close_when_both_ended(now, of, out);
  return out;
}

forward_effects forward_fsm::on_channel_end(time_point now, connection_id of) {
  forward_effects out;
  auto* c = find(of, phase::open);
  if (!c || std::exchange(c->channel_ended, true)) return out;
  out.push_back(end_local{of});
  close_when_both_ended(now, of, out);
  return out;
}

forward_effects forward_fsm::on_local_broken(time_point now, connection_id of) {
  forward_effects out;
  const auto at = connections_.find(of);
  if (at == connections_.end()) return out;
  auto& c = at->second;
  c.is_local_gone = true;
  if (c.at == phase::held) {
    drop(at);
  } else if (c.at == phase::opening) {
    // A pending open cannot be taken back: the slot stays taken until it is answered.
    drop(at);
    opening_.insert(of);
  } else if (c.at == phase::open) {
    begin_close(now, at, out);
  }
  return out;
}

/// Nothing can be sent any more, and all that came is delivered: the local end closes after it.
void forward_fsm::end_whole(iterator at, forward_effects& out) {
  out.push_back(close_local{at->first, false, "the other side has finished"});
  drop(at);
}

forward_effects forward_fsm::on_channel_closed(time_point, connection_id of) {
  forward_effects out;
  const auto at = connections_.find(of);
  if (at == connections_.end()) return out;
  if (at->second.at == phase::closing)
    drop(at);
  else if (at->second.at == phase::open && at->second.channel_ended)
    end_whole(at, out);
  else if (at->second.at == phase::open)
    reset(at, "the other side closed the connection", out);
  return out;
}

forward_effects forward_fsm::on_tick(time_point now) {
  forward_effects out;
  std::optional<time_point> next;
  for (auto at = connections_.begin(); at != connections_.end();) {
    auto& c = at->second;
    const bool is_timed = c.at == phase::held || c.at == phase::closing;
    if (is_timed && now < c.until) next = next ? std::min(*next, c.until) : c.until;
    if (!is_timed || now < c.until) {
      ++at;
    } else if (c.at == phase::held) {
      at = reset(at, "no session came up in time", out);
    } else {
      ++leaked_;
      at = drop(at);
    }
  }
  if (next) out.push_back(look_again{*next});
  return out;
}

}  // namespace ntrace::tunnel
