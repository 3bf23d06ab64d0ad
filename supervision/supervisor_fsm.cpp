#include "supervision/supervisor_fsm.hpp"

#include <fmt/core.h>
#include <algorithm>
#include <utility>

#include "config/mutation.hpp"

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

child_info* supervisor_fsm::get(const std::string& id) {
  const auto at = by_id_.find(id);
  return at == by_id_.end() ? nullptr : &*at->second;
}

const child_info* supervisor_fsm::find(const std::string& id) const {
  const auto at = by_id_.find(id);
  return at == by_id_.end() ? nullptr : &*at->second;
}

bool supervisor_fsm::is_alive(const child_info& c) {
  return c.state == child_state::starting || c.state == child_state::running ||
         c.state == child_state::stopping;
}

bool supervisor_fsm::is_busy() const {
  return !stopping_.empty() || !starting_.empty() || !stops_.empty() || !starts_.empty() ||
         current_;
}

bool supervisor_fsm::demands_restart(const child_info& c, const exit_reason& reason) {
  return c.spec.restart == restart_type::permanent ||
         (c.spec.restart == restart_type::transient && !reason.is_normal());
}

void supervisor_fsm::set(child_info& c, child_state s, time_point now) {
  if (is_alive(c)) --alive_;
  c.state = s;
  c.since = now;
  if (is_alive(c)) ++alive_;
}

void supervisor_fsm::insert(time_point now, const child_spec& spec) {
  child_info c;
  c.spec = spec;
  c.since = now;
  by_id_[spec.id] = children_.insert(children_.end(), std::move(c));
}

void supervisor_fsm::forget(const std::string& id, effects& out) {
  const auto at = by_id_.find(id);
  if (is_alive(*at->second)) --alive_;
  out.push_back(drop_child{id});
  children_.erase(at->second);
  by_id_.erase(at);
}

child_counts supervisor_fsm::count_children() const {
  child_counts out;
  for (const auto& c : children_) {
    ++out.specs;
    if (is_alive(c)) ++out.active;
    ++(c.spec.kind == child_kind::supervisor ? out.supervisors : out.workers);
  }
  return out;
}

result<effects> supervisor_fsm::on_start(time_point now, const std::vector<child_spec>& children) {
  if (auto fine = check(flags_); !fine) return fail(fine.error());
  if (is_dynamic() != template_.has_value() || (is_dynamic() && !children.empty()))
    return fail(
        {ec::bad_spec,
         "simple_one_for_one takes one template and no children; other strategies the reverse",
         {{"field", "strategy"}}});
  if (template_)
    if (auto fine = check(*template_, flags_); !fine) return fail(fine.error());
  std::set<std::string> ids;
  for (const auto& spec : children) {
    if (auto fine = check(spec, flags_); !fine) return fail(fine.error());
    if (!ids.insert(spec.id).second)
      return fail({ec::bad_spec,
                   "child \"" + spec.id + "\": id is there twice",
                   {{"field", "id"}, {"child", spec.id}}});
  }
  effects out;
  for (const auto& spec : children) {
    insert(now, spec);
    starts_.push_back(spec.id);
  }
  advance(now, out);
  return out;
}

/// Goes on with the plan until it has to wait for a child.
void supervisor_fsm::advance(time_point now, effects& out) {
  while (!has_ended_ && stopping_.empty() && starting_.empty()) {
    if (!stops_.empty()) {
      const auto id = std::move(stops_.front());
      stops_.pop_front();
      auto* c = get(id);
      if (!c || !is_alive(*c) || c->state == child_state::stopping) continue;
      // A dynamic supervisor ends its children together: nothing orders them.
      if (!(is_ending_ && is_dynamic())) stopping_ = id;
      ask_to_stop(*c, now, out);
    } else if (is_ending_) {
      if (alive_ > 0) return;
      has_ended_ = true;
      out.push_back(end{end_reason_});
    } else if (!starts_.empty()) {
      auto* c = get(starts_.front());
      if (!c || is_alive(*c))
        starts_.pop_front();
      else
        begin_start(*c, now, out);
    } else if (current_) {
      end_call({}, out);
    } else if (is_starting_) {
      // Before the deaths: from now on what fails is a restart, which is tried again, and no longer
      // the supervisor's own start.
      is_starting_ = false;
      out.push_back(report_started{});
    } else if (!deaths_.empty()) {
      const auto id = std::move(deaths_.front());
      deaths_.pop_front();
      auto* c = get(id);
      if (c && c->state == child_state::restarting && !c->retry_at && !c->comes_back)
        plan_restart(*c, now, out);
    } else if (!calls_.empty()) {
      auto next = std::move(calls_.front());
      calls_.pop_front();
      begin_call(now, std::move(next), out);
    } else {
      return;
    }
  }
}

void supervisor_fsm::ask_to_stop(child_info& c, time_point now, effects& out) {
  set(c, child_state::stopping, now);
  c.is_hit = false;
  const auto& deadline = c.spec.shutdown.deadline;
  c.kill_at = time_point::max();
  if (c.spec.shutdown.is_brutal) {
    c.kill_at = time_point::min();
    out.push_back(kill_child{c.spec.id});
    return;
  }
  out.push_back(stop_child{c.spec.id});
  if (!deadline) return;
  c.kill_at = now + *deadline;
  out.push_back(wake{c.kill_at});
}

void supervisor_fsm::begin_start(child_info& c, time_point now, effects& out) {
  set(c, child_state::starting, now);
  starting_ = c.spec.id;
  c.is_hit = c.comes_back = false;
  c.kill_at = time_point::max();
  out.push_back(start_child{c.spec.id, ++c.incarnation});
  if (!c.spec.start_deadline) return;
  c.kill_at = now + *c.spec.start_deadline;
  out.push_back(wake{c.kill_at});
}

effects supervisor_fsm::on_started(time_point now, const std::string& id, std::uint64_t incarnation,
                                   const start_outcome& outcome) {
  effects out;
  auto* c = get(id);
  if (!c || c->incarnation != incarnation || c->state != child_state::starting) return out;
  if (outcome.failed.code != ec::none) {
    on_start_failed(*c, now, outcome.failed, out);
    return out;
  }
  if (start_timed_out_) return out;  // Its kill is on its way.
  if (is_ending_) {                  // It waits for its turn to be stopped.
    set(*c, outcome.ignored ? child_state::stopped : child_state::running, now);
    advance(now, out);
    return out;
  }
  starting_.clear();
  starts_.pop_front();
  c->kill_at = time_point::max();
  set(*c, outcome.ignored ? child_state::stopped : child_state::running, now);
  if (outcome.ignored && (c->spec.restart == restart_type::temporary || is_dynamic()))
    forget(id, out);
  advance(now, out);
  return out;
}

void supervisor_fsm::on_start_failed(child_info& c, time_point now, const error& why,
                                     effects& out) {
  const auto id = c.spec.id;
  const error seen = std::exchange(start_timed_out_, false)
                         ? error{ec::timed_out, "the start did not end within its deadline", {}}
                         : why;
  starting_.clear();
  c.kill_at = time_point::max();
  note_end(c, now, to_string(seen));
  if (is_ending_) {
    set(c, child_state::stopped, now);
    advance(now, out);
    return;
  }
  if (is_starting_) {
    set(c, child_state::stopped, now);
    give_up(now, {exit_kind::failed, fmt::format("child {} did not start: {}", id, c.last_reason)},
            out);
    return;
  }
  if (current_ && current_->spec.id == id) {  // Asked for: the asker decides what next.
    starts_.pop_front();
    set(c, child_state::stopped, now);
    if (current_->what == verb::start) forget(id, out);
    end_call(fail(seen), out);
    advance(now, out);
    return;
  }
  // A failed restart is another restart, tried again from the child that failed; through a timer,
  // so that other inputs are served in between.
  set(c, child_state::restarting, now);
  if (!count_restart(c, now, out)) return;
  if (flags_.how == strategy::one_for_one || is_dynamic()) {
    starts_.pop_front();
  } else {
    suspended_ = std::exchange(starts_, {});
    for (const auto& other : suspended_)
      if (auto* o = get(other)) o->comes_back = true;
  }
  set_retry(c, now + next_wait(c), out);
  advance(now, out);
}

effects supervisor_fsm::on_exit(time_point now, const std::string& id, std::uint64_t incarnation,
                                const exit_reason& reason) {
  effects out;
  auto* c = get(id);
  if (!c || c->incarnation != incarnation || !is_alive(*c)) return out;
  if (c->state == child_state::stopping)
    on_stopped(*c, now, reason, out);
  else if (c->state == child_state::starting)
    on_start_failed(*c, now, {ec::child_failed, to_string(reason), {}}, out);
  else
    on_own_end(*c, now, reason, out);
  return out;
}

void supervisor_fsm::note_end(child_info& c, time_point now, std::string reason) {
  c.last_reason = std::move(reason);
  c.last_exit_at = now;
}

void supervisor_fsm::on_stopped(child_info& c, time_point now, const exit_reason& reason,
                                effects& out) {
  note_end(c, now, to_string(reason));
  if (stopping_ == c.spec.id) stopping_.clear();
  const bool was_killed = c.kill_at == time_point::min();
  if (reason.kind == exit_kind::failed || (reason.kind == exit_kind::killed && !was_killed))
    out.push_back(report_end{c.spec.id, reason});
  c.kill_at = time_point::max();
  set(c, c.comes_back ? child_state::restarting : child_state::stopped, now);
  if (!c.comes_back && !is_ending_ && (c.spec.restart == restart_type::temporary || is_dynamic()))
    forget(std::string{c.spec.id}, out);
  advance(now, out);
}

void supervisor_fsm::on_own_end(child_info& c, time_point now, const exit_reason& reason,
                                effects& out) {
  note_end(c, now, to_string(reason));
  if (now - c.since >= c.spec.backoff.stable_for && !mutated(mutation::backoff_never_reset))
    c.backoff_step = 0;
  const bool restart = demands_restart(c, reason);
  const bool is_temporary = c.spec.restart == restart_type::temporary || is_dynamic();
  if (is_ending_) {
    set(c, child_state::stopped, now);
  } else if (c.is_hit) {
    // The round under way restarts it anyhow; its own end counts all the same.
    set(c, c.comes_back ? child_state::restarting : child_state::stopped, now);
    if (restart && !count_restart(c, now, out)) return;
    if (!c.comes_back && is_temporary) forget(std::string{c.spec.id}, out);
  } else if (!restart) {
    set(c, child_state::stopped, now);
    const auto spec = c.spec;
    if (is_temporary) forget(spec.id, out);
    check_significant(spec, now, out);
  } else {
    set(c, child_state::restarting, now);
    if (is_busy())
      deaths_.push_back(c.spec.id);
    else
      plan_restart(c, now, out);
  }
  advance(now, out);
}

void supervisor_fsm::check_significant(const child_spec& ended, time_point now, effects& out) {
  if (!ended.significant || flags_.ends == auto_shutdown::never) return;
  const auto still_on = [&](const child_info& c) {
    return c.spec.significant && c.spec.id != ended.id && c.state != child_state::stopped;
  };
  if (flags_.ends == auto_shutdown::any_significant ||
      std::none_of(children_.begin(), children_.end(), still_on))
    give_up(now, {exit_kind::shutdown, "significant child " + ended.id + " ended"}, out);
}

effects supervisor_fsm::on_tick(time_point now) {
  effects out;
  const auto kill_late = [&](child_info& c) {
    if (c.kill_at == time_point::min() || now < c.kill_at) return;
    start_timed_out_ = start_timed_out_ || c.state == child_state::starting;
    c.kill_at = time_point::min();
    out.push_back(kill_child{c.spec.id});
  };
  if (const auto& slow = stopping_.empty() ? starting_ : stopping_; !slow.empty())
    kill_late(*get(slow));
  if (is_ending_ && is_dynamic())
    for (auto& c : children_)
      if (c.state == child_state::stopping) kill_late(c);
  while (!retries_.empty() && retries_.begin()->first <= now) {
    auto* c = get(retries_.begin()->second);
    cancel_retry(*c);
    // Behind a start that a call asked for and that is not over yet.
    if (flags_.how == strategy::one_for_one || is_dynamic())
      starts_.push_back(c->spec.id);
    else
      for (auto& id : std::exchange(suspended_, {})) starts_.push_back(std::move(id));
  }
  advance(now, out);
  return out;
}

effects supervisor_fsm::on_stop(time_point now, exit_reason reason) {
  effects out;
  give_up(now, std::move(reason), out);
  return out;
}

void supervisor_fsm::give_up(time_point now, exit_reason reason, effects& out) {
  if (std::exchange(is_ending_, true)) return;
  end_reason_ = std::move(reason);
  start_timed_out_ = false;
  starts_.clear();
  suspended_.clear();
  deaths_.clear();
  stops_.clear();
  retries_.clear();
  starting_.clear();  // It is stopped like the others.
  if (is_dynamic()) stopping_.clear();
  for (auto& c : children_) {
    c.is_hit = c.comes_back = false;
    c.retry_at.reset();
    if (c.state == child_state::restarting) set(c, child_state::stopped, now);
    if (c.state != child_state::stopping && is_alive(c)) stops_.push_front(c.spec.id);
  }
  const error stopping{ec::draining, "the supervisor is stopping", {}};
  if (current_) end_call(fail(stopping), out);
  for (const auto& c : std::exchange(calls_, {}))
    out.push_back(answer{c.id, c.spec.id, fail(stopping)});
  advance(now, out);
}

}  // namespace ntrace::supervision
