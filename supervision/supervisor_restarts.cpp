// Restarts: their count against the intensity, their waits, and the rounds of a group.
#include <fmt/core.h>
#include <algorithm>
#include <cmath>
#include <utility>

#include "supervision/supervisor_fsm.hpp"

namespace ntrace::supervision {

bool supervisor_fsm::count_restart(child_info& c, time_point now, effects& out) {
  ++c.restarts;
  ++restarts_;
  if (window_.count(now)) return true;
  give_up(now,
          {exit_kind::shutdown,
           fmt::format("restart intensity reached: child {} ended: {}", c.spec.id, c.last_reason)},
          out);
  return false;
}

milliseconds supervisor_fsm::next_wait(child_info& c) {
  const auto& b = c.spec.backoff;
  if (b.min.count() == 0) return milliseconds{0};
  const auto max = static_cast<double>(b.max.count());
  auto wait = static_cast<double>(b.min.count());
  for (unsigned i = 0; i < c.backoff_step && wait < max; ++i) wait *= b.factor;
  ++c.backoff_step;
  constexpr std::uint64_t grain = 1u << 20;
  const auto share = static_cast<double>(random_.below(2 * grain + 1)) / grain - 1;  // -1 to 1
  return milliseconds{std::llround(std::min(wait, max) * (1 + b.jitter * share))};
}

void supervisor_fsm::set_retry(child_info& c, time_point at, effects& out) {
  c.retry_at = at;
  retries_.emplace(at, c.spec.id);
  out.push_back(wake{at});
}

void supervisor_fsm::cancel_retry(child_info& c) {
  if (c.retry_at) retries_.erase({*c.retry_at, c.spec.id});
  c.retry_at.reset();
}

void supervisor_fsm::plan_restart(child_info& dead, time_point now, effects& out) {
  if (!count_restart(dead, now, out)) return;
  const auto wait = next_wait(dead);
  if (flags_.how == strategy::one_for_all || flags_.how == strategy::rest_for_one)
    plan_round(dead, now, wait, out);
  else if (wait.count() > 0)
    set_retry(dead, now + wait, out);
  else
    starts_.push_back(dead.spec.id);
}

bool supervisor_fsm::precedes(const std::string& a, const std::string& b) const {
  for (const auto& c : children_) {
    if (c.spec.id == a) return a != b;
    if (c.spec.id == b) return false;
  }
  return false;
}

/// one_for_all and rest_for_one: stops those hit at once, in reverse order, and starts them after
/// `wait`. A round that was waiting for its retry is part of the new one, or takes the dead in.
void supervisor_fsm::plan_round(child_info& dead, time_point now, milliseconds wait, effects& out) {
  const auto id = dead.spec.id;
  if (!suspended_.empty() && flags_.how == strategy::rest_for_one &&
      precedes(suspended_.front(), id)) {
    dead.comes_back = true;
    suspended_.push_back(id);
    return;
  }
  for (const auto& other : suspended_)
    if (auto* o = get(other)) cancel_retry(*o);
  suspended_.clear();
  std::deque<std::string> back;
  auto at = flags_.how == strategy::one_for_all ? children_.begin() : by_id_.at(id);
  for (; at != children_.end(); ++at) {
    if (at->state == child_state::running) {
      stops_.push_front(at->spec.id);
      at->is_hit = true;
    }
    if (at->spec.restart == restart_type::temporary) continue;
    if (at->state == child_state::stopped) set(*at, child_state::restarting, now);
    at->comes_back = true;
    back.push_back(at->spec.id);
  }
  (wait.count() > 0 ? suspended_ : starts_) = std::move(back);
  if (wait.count() > 0) set_retry(dead, now + wait, out);
}

}  // namespace ntrace::supervision
