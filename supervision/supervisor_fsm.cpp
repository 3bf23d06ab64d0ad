#include "supervision/supervisor_fsm.hpp"

#include <algorithm>
#include <utility>

namespace ntrace::supervision {

std::string_view to_string(child_state s) {
  switch (s) {
    case child_state::starting:
      return "starting";
    case child_state::running:
      return "running";
    case child_state::restarting:
      return "restarting";
    case child_state::stopping:
      return "stopping";
    case child_state::stopped:
      return "stopped";
  }
  return "stopped";
}

child_info* supervisor_fsm::find(const std::string& id) {
  const auto at = std::find_if(children_.begin(), children_.end(),
                               [&](const child_info& c) { return c.spec.id == id; });
  return at == children_.end() ? nullptr : &*at;
}

void supervisor_fsm::set(child_info& c, child_state s, time_point now) {
  c.state = s;
  c.since = now;
}

void supervisor_fsm::forget(const std::string& id, effects& out) {
  std::erase_if(children_, [&](const child_info& c) { return c.spec.id == id; });
  out.push_back(drop_child{id});
}

result<effects> supervisor_fsm::add_child(time_point now, child_spec spec) {
  if (spec.id.empty()) return fail(ec::bad_argument, "a child needs an id");
  if (find(spec.id))
    return fail(ec::bad_argument, "the supervisor has a child " + spec.id + " already");
  if (is_ending_) return fail(ec::draining, "the supervisor is stopping");
  children_.push_back({spec, child_state::stopped, 0, 0, now, ""});
  effects out;
  if (!is_starting_) {
    to_start_.push_back(spec.id);
    advance(now, out);
  }
  return out;
}

effects supervisor_fsm::on_start(time_point now) {
  effects out;
  for (const auto& c : children_) to_start_.push_back(c.spec.id);
  advance(now, out);
  return out;
}

/// Goes on with the plan until it has to wait for a child.
void supervisor_fsm::advance(time_point now, effects& out) {
  while (waiting_for_.empty() && !has_ended_) {
    if (!to_stop_.empty()) {
      const auto id = to_stop_.front();
      to_stop_.pop_front();
      auto* c = find(id);
      if (!c || (c->state != child_state::running && c->state != child_state::stopping)) continue;
      set(*c, child_state::stopping, now);
      waiting_for_ = id;
      const auto& deadline = c->spec.shutdown.deadline;
      kill_at_ = deadline ? now + *deadline : time_point::max();
      if (deadline && deadline->count() == 0) {
        out.push_back(kill_child{id});
      } else {
        out.push_back(stop_child{id, c->spec.shutdown});
        if (deadline) out.push_back(wake{kill_at_});
      }
    } else if (is_ending_) {
      has_ended_ = true;
      out.push_back(end{end_reason_});
    } else if (!to_start_.empty()) {
      auto* c = find(to_start_.front());
      if (!c || c->state == child_state::running || c->state == child_state::starting) {
        if (c && c->state == child_state::starting) return;  // on_started() goes on.
        to_start_.pop_front();
        continue;
      }
      set(*c, child_state::starting, now);
      ++c->incarnation;
      out.push_back(start_child{c->spec.id});
      return;
    } else if (!died_meanwhile_.empty()) {
      const auto id = died_meanwhile_.front();
      died_meanwhile_.erase(died_meanwhile_.begin());
      if (const auto* c = find(id); c && c->state == child_state::restarting)
        plan_restart(now, id, out);
    } else {
      if (std::exchange(is_starting_, false)) out.push_back(report_started{});
      return;
    }
  }
}

effects supervisor_fsm::on_started(time_point now, const std::string& id,
                                   const result<void>& outcome) {
  effects out;
  auto* c = find(id);
  if (!c || c->state != child_state::starting || to_start_.empty() || to_start_.front() != id)
    return out;
  if (outcome) {
    to_start_.pop_front();
    set(*c, child_state::running, now);
    advance(now, out);
    return out;
  }
  c->last_reason = to_string(outcome.error());
  if (is_starting_) {
    set(*c, child_state::stopped, now);
    give_up(now, {exit_kind::failed, "child " + id + " did not start: " + c->last_reason}, out);
    return out;
  }
  // A failed restart is another restart, tried again from the child that failed.
  set(*c, child_state::restarting, now);
  ++c->restarts;
  if (!window_.count(now)) {
    give_up(now, {exit_kind::shutdown, "restart intensity reached: " + c->last_reason}, out);
    return out;
  }
  // Through a timer, not at once: other inputs are served in between.
  out.push_back(wake{now});
  return out;
}

effects supervisor_fsm::on_exit(time_point now, const std::string& id, std::uint64_t incarnation,
                                exit_reason reason) {
  effects out;
  auto* c = find(id);
  if (!c || c->incarnation != incarnation || c->state == child_state::stopped) return out;
  c->last_reason = reason.text.empty() ? (reason.is_normal() ? "normal" : "killed") : reason.text;
  if (waiting_for_ == id) {
    waiting_for_.clear();
    kill_at_ = time_point::max();
    set(*c, child_state::stopped, now);
    const bool comes_back = std::find(to_start_.begin(), to_start_.end(), id) != to_start_.end();
    if (!comes_back && c->spec.restart == restart_type::temporary) forget(id, out);
    advance(now, out);
    return out;
  }
  const bool restart = c->spec.restart == restart_type::permanent ||
                       (c->spec.restart == restart_type::transient && !reason.is_normal());
  if (is_ending_ || !restart) {
    set(*c, child_state::stopped, now);
    if (c->spec.restart == restart_type::temporary) forget(id, out);
    return out;
  }
  set(*c, child_state::restarting, now);
  if (!to_stop_.empty() || !to_start_.empty() || !waiting_for_.empty()) {
    if (std::find(to_start_.begin(), to_start_.end(), id) == to_start_.end())
      died_meanwhile_.push_back(id);
    return out;
  }
  plan_restart(now, id, out);
  advance(now, out);
  return out;
}

void supervisor_fsm::plan_restart(time_point now, const std::string& id, effects& out) {
  auto* dead = find(id);
  ++dead->restarts;
  if (!window_.count(now)) {
    give_up(now, {exit_kind::shutdown, "restart intensity reached: " + dead->last_reason}, out);
    return;
  }
  const bool alone =
      flags_.how == strategy::one_for_one || flags_.how == strategy::simple_one_for_one;
  bool after = flags_.how == strategy::one_for_all;
  std::vector<std::string> hit;
  for (const auto& c : children_) {
    if (c.spec.id == id) {
      after = !alone;
      hit.push_back(id);
    } else if (after) {
      hit.push_back(c.spec.id);
    }
  }
  for (const auto& other : hit) {
    const auto* c = find(other);
    if (other != id) to_stop_.push_front(other);
    if (other == id || c->spec.restart != restart_type::temporary) to_start_.push_back(other);
  }
}

void supervisor_fsm::give_up(time_point now, exit_reason reason, effects& out) {
  if (is_ending_) return;
  is_ending_ = true;
  end_reason_ = std::move(reason);
  to_start_.clear();
  died_meanwhile_.clear();
  to_stop_.clear();
  for (const auto& c : children_) to_stop_.push_front(c.spec.id);
  advance(now, out);
}

effects supervisor_fsm::on_stop(time_point now, exit_reason reason) {
  effects out;
  give_up(now, std::move(reason), out);
  return out;
}

effects supervisor_fsm::on_tick(time_point now) {
  effects out;
  if (!waiting_for_.empty() && now >= kill_at_) {
    out.push_back(kill_child{waiting_for_});
    kill_at_ = time_point::max();
  }
  if (waiting_for_.empty()) advance(now, out);
  return out;
}

}  // namespace ntrace::supervision
