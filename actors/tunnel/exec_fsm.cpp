#include "actors/tunnel/exec_fsm.hpp"

#include <fmt/core.h>
#include <algorithm>
#include <array>
#include <utility>

namespace ntrace::tunnel {
namespace {

constexpr std::size_t output_bytes_limit = 64u << 20;
constexpr int kill_failures_max = 10;
constexpr milliseconds kill_retry{1000};

exec_outcome never_ran(exec_end how, std::string why) {
  exec_outcome out;
  out.how = how;
  out.why = std::move(why);
  return out;
}

}  // namespace

std::string_view to_string(exec_end e) {
  static constexpr std::array<std::string_view, 6> names{"exited",    "signalled", "refused",
                                                         "cancelled", "timed_out", "unknown"};
  return names[static_cast<std::size_t>(e)];
}

std::string exec_fsm::new_nonce() {
  static constexpr std::string_view digits = "0123456789abcdef";
  std::string out;
  for (int half = 0; half < 2; ++half)
    for (auto bits = random_.next(), i = std::uint64_t{0}; i < 16; ++i, bits >>= 4)
      out += digits[bits & 15];
  return out;
}

exec_effects exec_fsm::look_around(time_point now, exec_effects out) {
  run_kills(now, out);
  run_waiting(out);
  auto next = grow_at_;
  for (const auto& [id, c] : waiting_) next = std::min(next, c.until);
  for (const auto& [id, r] : running_) next = std::min(next, r.until);
  // One that is due waits for a place or a session.
  for (const auto& t : leftovers_)
    if (t.due > now) next = std::min(next, t.due);
  if (next != time_point::max()) out.push_back(exec_look_again{next});
  return out;
}

exec_effects exec_fsm::on_exec(time_point now, exec_id id, exec_request request) {
  exec_effects out;
  if (const auto words = quote_for_sh(request.argv); !words) {
    out.push_back(exec_done{id, never_ran(exec_end::refused, words.error().message)});
  } else if (waiting_.size() >= options_.waiting_max) {
    out.push_back(exec_done{
        id, never_ran(exec_end::refused,
                      std::to_string(waiting_.size()) + " commands wait for a place already")});
  } else {
    request.output_bytes_max = std::min(request.output_bytes_max, output_bytes_limit);
    const auto until = now + request.deadline;
    waiting_.emplace_back(id, command{std::move(request), new_nonce(), until});
  }
  return look_around(now, std::move(out));
}

void exec_fsm::run_waiting(exec_effects& out) {
  // One place is kept for cancelling, where there is more than one.
  const auto places = std::max<std::size_t>(limit_, 2) - 1;
  while (is_up_ && !waiting_.empty()) {
    const auto used = std::count_if(running_.begin(), running_.end(),
                                    [](const auto& r) { return !r.second.kills; });
    if (static_cast<std::size_t>(used) >= places || running_.size() >= limit_) return;
    auto [id, c] = std::move(waiting_.front());
    waiting_.pop_front();
    const auto line = remote_line(c.request.argv, c.nonce);
    const auto bytes_max = c.request.output_bytes_max;
    out.push_back(run_remote{id, line.value_or("exit 1"), c.request.input});
    const auto until = c.until;
    auto nonce = c.nonce;
    running_.emplace(id, running{std::move(c), remote_stderr{std::move(nonce), bytes_max}})
        .first->second.until = until;
  }
}

exec_effects exec_fsm::on_cancel(time_point now, exec_id id) {
  exec_effects out;
  const auto waits = std::find_if(waiting_.begin(), waiting_.end(),
                                  [id](const auto& one) { return one.first == id; });
  if (waits != waiting_.end()) {
    waiting_.erase(waits);
    out.push_back(exec_done{id, never_ran(exec_end::cancelled, "cancelled before it began")});
  } else if (const auto at = running_.find(id); at != running_.end() && !at->second.kills) {
    begin_end(now, at, exec_end::cancelled);
  }
  return look_around(now, std::move(out));
}

void exec_fsm::begin_end(time_point now, iterator at, exec_end why) {
  auto& r = at->second;
  if (r.ends_as) return;
  r.ends_as = why;
  r.until = now + options_.kill_after + options_.closing_max;
  // Else once its process id is known.
  if (r.err.pid()) kill({*r.err.pid(), r.of.nonce});
}

/// Closing its channel leaves a command running, and servers may ignore signals that are sent over
/// it: so a second command does it.
void exec_fsm::kill(target t) {
  if (t.failures >= kill_failures_max) return;
  for (auto& known : leftovers_)
    if (known.nonce == t.nonce) {
      known.is_termed = known.is_termed || t.is_termed;
      return;
    }
  leftovers_.push_back(std::move(t));
  if (leftovers_.size() > options_.leftover_max) leftovers_.pop_front();
}

void exec_fsm::run_kills(time_point now, exec_effects& out) {
  for (std::size_t i = leftovers_.size(); is_up_ && i > 0; --i) {
    auto t = std::move(leftovers_.front());
    leftovers_.pop_front();
    if (now < t.due || running_.size() >= std::max<std::size_t>(limit_, 2)) {
      leftovers_.push_back(std::move(t));
      continue;
    }
    const auto id = next_kill_++;
    out.push_back(run_remote{id, cancel_line(t.pid, t.nonce, t.is_termed ? "KILL" : "TERM"), {}});
    running one{{}, remote_stderr{"", 0}};
    one.until = time_point::max();
    one.kills = std::move(t);
    running_.emplace(id, std::move(one));
  }
}

exec_effects exec_fsm::on_session(time_point now) {
  is_up_ = true;
  return on_tick(now);
}

exec_effects exec_fsm::on_session_lost(time_point now) {
  exec_effects out;
  is_up_ = false;
  for (auto at = running_.begin(); at != running_.end(); at = running_.erase(at)) {
    auto& r = at->second;
    if (r.kills) {
      kill(std::move(*r.kills));
      continue;
    }
    const bool again = r.of.request.is_idempotent && !r.ends_as;
    if ((r.ends_as || again) && r.err.pid()) kill({*r.err.pid(), r.of.nonce});
    if (again) {
      r.of.nonce = new_nonce();
      waiting_.emplace_front(at->first, std::move(r.of));
      continue;
    }
    exec_outcome o;
    o.how = r.ends_as.value_or(exec_end::unknown);
    o.out = std::move(r.out);
    o.err = r.err.text();
    o.why = r.ends_as ? "the session was lost while it was being ended; it is killed once there is "
                        "a session again"
                      : "the session was lost; it may still run";
    out.push_back(exec_done{at->first, std::move(o)});
  }
  return look_around(now, std::move(out));
}

exec_effects exec_fsm::on_refused(time_point now, exec_id id, const std::string& reason) {
  exec_effects out;
  const auto at = running_.find(id);
  if (at == running_.end()) return out;
  auto r = std::move(at->second);
  running_.erase(at);
  if (!running_.empty()) {
    // A server that is full says no more than that it failed: what runs is what it allows.
    limit_ = running_.size();
    grow_at_ = now + options_.grow_interval;
  }
  if (r.kills) {
    ++r.kills->failures;
    r.kills->due = now + kill_retry;
    kill(std::move(*r.kills));
  } else if (running_.empty() || r.ends_as) {
    out.push_back(exec_done{id, never_ran(r.ends_as.value_or(exec_end::refused), reason)});
  } else {
    waiting_.emplace_front(id, std::move(r.of));
  }
  return look_around(now, std::move(out));
}

void exec_fsm::on_output(exec_id id, std::string_view bytes) {
  const auto at = running_.find(id);
  if (at == running_.end()) return;
  auto& r = at->second;
  const auto room =
      r.of.request.output_bytes_max - std::min(r.of.request.output_bytes_max, r.out.size());
  if (bytes.size() > room) r.is_truncated = true;
  if (!r.kills) r.out.append(bytes.substr(0, room));
}

exec_effects exec_fsm::on_error_output(time_point now, exec_id id, std::string_view bytes) {
  exec_effects out;
  const auto at = running_.find(id);
  if (at == running_.end() || at->second.kills) return out;
  auto& r = at->second;
  const bool was_known = r.err.pid().has_value();
  r.err.add(bytes);
  if (!was_known && r.err.pid() && r.ends_as) {
    kill({*r.err.pid(), r.of.nonce});
    return look_around(now, std::move(out));
  }
  return out;
}

void exec_fsm::on_exit_status(exec_id id, int status) {
  if (const auto at = running_.find(id); at != running_.end()) at->second.status = status;
}

void exec_fsm::on_exit_signal(exec_id id, const std::string& signal) {
  if (const auto at = running_.find(id); at != running_.end()) at->second.signal = signal;
}

exec_fsm::iterator exec_fsm::finish(iterator at, exec_effects& out) {
  auto& r = at->second;
  exec_outcome o;
  const auto told = r.err.status();
  o.out = std::move(r.out);
  o.err = r.err.text();
  o.is_truncated = r.is_truncated || r.err.is_truncated();
  o.status = told.value_or(0);
  o.signal = r.signal;
  // The signal first: a status of 0 is also what stands there when a signal ended it.
  if (r.ends_as) {
    o.how = *r.ends_as;
    o.why = o.how == exec_end::cancelled ? "cancelled while it ran" : "its deadline passed";
  } else if (!r.signal.empty()) {
    o.how = exec_end::signalled;
    o.why = "it was killed by the signal " + r.signal;
  } else if (told && r.status == told) {
    o.how = exec_end::exited;
  } else if (told && r.status) {
    o.why = fmt::format("its shell says that it ended with {}, the server that it ended with {}",
                        *told, *r.status);
  } else {
    o.why = told ? "the server did not tell how it ended" : "it ended without telling how";
  }
  out.push_back(exec_done{at->first, std::move(o)});
  return running_.erase(at);
}

exec_effects exec_fsm::on_closed(time_point now, exec_id id) {
  exec_effects out;
  const auto at = running_.find(id);
  if (at == running_.end()) return out;
  if (auto& kills = at->second.kills) {
    auto t = std::move(*kills);
    const auto status = at->second.status;
    running_.erase(at);
    const bool is_gone = status == 0 || (status == 1 && t.is_termed);
    if (!status) ++t.failures;
    if (status == 1) t.is_termed = true;
    t.due = now + (status ? options_.kill_after : kill_retry);
    if (!is_gone) kill(std::move(t));
  } else {
    std::erase_if(leftovers_, [&](const target& t) { return t.nonce == at->second.of.nonce; });
    finish(at, out);
  }
  return look_around(now, std::move(out));
}

exec_effects exec_fsm::on_tick(time_point now) {
  exec_effects out;
  if (now >= grow_at_) {
    limit_ = std::min(limit_ + 1, options_.sessions_max);
    grow_at_ = limit_ < options_.sessions_max ? now + options_.grow_interval : time_point::max();
  }
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    if (now < at->second.until) {
      ++at;
      continue;
    }
    out.push_back(exec_done{at->first,
                            never_ran(exec_end::timed_out, "its deadline passed before it began")});
    at = waiting_.erase(at);
  }
  for (auto at = running_.begin(); at != running_.end();) {
    if (now < at->second.until) {
      ++at;
    } else if (!at->second.ends_as) {
      begin_end(now, at, exec_end::timed_out);
      ++at;
    } else {
      out.push_back(close_remote{at->first});
      at = finish(at, out);
    }
  }
  return look_around(now, std::move(out));
}

}  // namespace ntrace::tunnel
