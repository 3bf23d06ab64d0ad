// The calls of a running supervisor: start, terminate, restart and delete a child.
#include <fmt/core.h>
#include <algorithm>
#include <utility>

#include "supervision/supervisor_fsm.hpp"

namespace ntrace::supervision {

effects supervisor_fsm::on_start_child(time_point now, call_id call, child_spec spec) {
  return enqueue(now, {call, verb::start, std::move(spec)});
}

effects supervisor_fsm::on_terminate_child(time_point now, call_id call, const std::string& id) {
  child_spec spec;
  spec.id = id;
  return enqueue(now, {call, verb::terminate, std::move(spec)});
}

effects supervisor_fsm::on_restart_child(time_point now, call_id call, const std::string& id) {
  child_spec spec;
  spec.id = id;
  return enqueue(now, {call, verb::restart, std::move(spec)});
}

effects supervisor_fsm::on_delete_child(time_point now, call_id call, const std::string& id) {
  child_spec spec;
  spec.id = id;
  return enqueue(now, {call, verb::remove, std::move(spec)});
}

effects supervisor_fsm::enqueue(time_point now, request c) {
  effects out;
  if (is_ending_)
    refuse(c, ec::draining, "the supervisor is stopping", out);
  else if (calls_.size() >= calls_max)
    refuse(c, ec::overloaded, "too many calls wait for the supervisor; try again later", out);
  else
    calls_.push_back(std::move(c));
  advance(now, out);
  return out;
}

void supervisor_fsm::refuse(const request& c, ec code, const std::string& why, effects& out) {
  out.push_back(answer{c.id, c.spec.id, fail(code, why)});
}

void supervisor_fsm::end_call(result<void> outcome, effects& out) {
  out.push_back(answer{current_->id, current_->spec.id, std::move(outcome)});
  current_.reset();
}

void supervisor_fsm::begin_call(time_point now, request c, effects& out) {
  if (c.what == verb::start) return begin_start_child(now, std::move(c), out);
  const auto id = c.spec.id;
  auto* known = get(id);
  if (!known) return refuse(c, ec::not_found, "there is no child \"" + id + "\"", out);
  if (c.what == verb::terminate) return begin_terminate(now, std::move(c), out);
  if (is_alive(*known)) return refuse(c, ec::child_running, "child \"" + id + "\" runs", out);
  if (known->state == child_state::restarting)
    return refuse(c, ec::child_restarting,
                  "child \"" + id + "\" is being restarted; terminate it first", out);
  if (c.what == verb::remove) {
    forget(id, out);
    out.push_back(answer{c.id, id, {}});
  } else {
    starts_.push_back(id);
    current_ = std::move(c);
  }
}

void supervisor_fsm::begin_start_child(time_point now, request c, effects& out) {
  if (template_) {
    auto id = std::move(c.spec.id);
    while (id.empty() || (id == template_->id)) {
      id = fmt::format("{}_{}", template_->id, next_number_++);
      if (get(id)) id.clear();  // Somebody named theirs so.
    }
    c.spec = *template_;
    c.spec.id = std::move(id);
  }
  const auto& id = c.spec.id;
  if (auto fine = check(c.spec, flags_); !fine) {
    out.push_back(answer{c.id, id, fail(fine.error())});
    return;
  }
  if (const auto* known = get(id)) {
    if (known->state == child_state::stopped)
      return refuse(c, ec::already_present,
                    "child \"" + id + "\" is there, stopped; restart or delete it", out);
    return refuse(c, ec::already_started, "child \"" + id + "\" runs already", out);
  }
  insert(now, c.spec);
  out.push_back(adopt_child{c.id, id});
  starts_.push_back(id);
  current_ = std::move(c);
}

void supervisor_fsm::begin_terminate(time_point now, request c, effects& out) {
  auto& child = *get(c.spec.id);
  if (is_alive(child)) {
    stops_.push_back(child.spec.id);
  } else if (child.state == child_state::restarting) {
    const bool was_first = child.retry_at.has_value();
    cancel_retry(child);
    std::erase(suspended_, child.spec.id);
    child.comes_back = false;
    set(child, child_state::stopped, now);
    // What was down only because of it comes up again.
    if (was_first) starts_ = std::exchange(suspended_, {});
    if (is_dynamic()) forget(c.spec.id, out);
  }
  current_ = std::move(c);
}

}  // namespace ntrace::supervision
