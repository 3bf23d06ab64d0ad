#include "supervision/supervisor_actor.hpp"

#include <caf/actor_ostream.hpp>
#include <caf/actor_system.hpp>
#include <caf/send.hpp>

#include "config/gauges.hpp"
#include "config/log.hpp"
#include "config/overload.hpp"
#include "supervision/caf_types.hpp"
#include "supervision/death_watch.hpp"
#include "supervision/supervisor_state.hpp"

namespace ntrace::supervision {
namespace {

using self_ptr = supervisor_self;
using tick = caf::atom_constant<caf::atom("sv_tick")>;

void perform(self_ptr self, effects more);

void tell_started(self_ptr self, const std::string& id, std::uint64_t incarnation,
                  const start_outcome& outcome) {
  perform(self, self->state.fsm->on_started(now_of(self), id, incarnation, outcome));
}

result<caf::actor> call_start(self_ptr self, const child& spec) {
  try {
    return spec.start(self);
  } catch (const std::exception& e) {
    return fail(ec::child_failed, "the start function threw " + exception_text(e));
  } catch (...) {
    return fail(ec::child_failed, "the start function threw an exception of unknown type");
  }
}

void start_one(self_ptr self, const std::string& id, std::uint64_t incarnation) {
  auto& state = self->state;
  const auto& spec = state.specs.at(id);
  const auto started = call_start(self, spec);
  if (!started || !*started) {
    if (!started)
      log::warn(
          "supervisor.child_start_failed",
          {{"supervisor", state.label}, {"child", id}, {"reason", to_string(started.error())}});
    return tell_started(self, id, incarnation,
                        started ? start_outcome{true, {}} : start_outcome{false, started.error()});
  }
  watch(*started, caf::actor_cast<caf::actor>(self));
  auto& child = state.running[id] = {*started, incarnation};
  state.ids[(*started)->id()] = id;
  if (const auto front = state.fronts->find(id)) point_facade(front, *started);
  log::debug("supervisor.child_started",
             {{"supervisor", state.label}, {"child", id}, {"incarnation", incarnation}});
  if (spec.spec.kind == child_kind::worker && !spec.reports_ready)
    return tell_started(self, id, incarnation, {});
  const auto asked = self->request(*started, caf::infinite, wait_atom::value);
  child.readiness = asked.id();
  asked.then(
      [=](caf::ok_atom) {
        if (const auto at = self->state.running.find(id);
            at != self->state.running.end() && at->second.incarnation == incarnation)
          at->second.readiness.reset();
        tell_started(self, id, incarnation, {});
      },
      [](const caf::error&) {});  // Its end tells why.
}

/// Asks or kills a child; one that has no process has ended already.
void end_one(self_ptr self, const std::string& id, caf::exit_reason how) {
  const auto at = self->state.running.find(id);
  if (at != self->state.running.end()) return self->send_exit(at->second.address, how);
  if (const auto* known = self->state.fsm->find(id))
    perform(self, self->state.fsm->on_exit(now_of(self), id, known->incarnation,
                                           {exit_kind::shutdown, ""}));
}

void finish(self_ptr self, const exit_reason& reason) {
  auto& state = self->state;
  state.last_words = to_string(reason);
  if (!reason.text.empty()) {
    static auto& given_up = gauges::value("supervisor_given_up");
    ++given_up;
    log::error("supervisor.ended", {{"supervisor", state.label}, {"reason", reason.text}});
  }
  state.running.clear();
  self->quit(to_caf(reason));
}

void drop_one(self_ptr self, const std::string& id) {
  auto& state = self->state;
  state.fronts->end(id);
  state.specs.erase(id);
  state.added.erase(id);
}

void adopt_one(self_ptr self, const adopt_child& e) {
  auto& state = self->state;
  auto at = state.adds.find(e.call);
  at->second.spec = state.fsm->find(e.id)->spec;
  state.fronts->put(e.id, at->second.front, at->second.start.inner());
  state.added.insert(e.id);
  state.specs.insert_or_assign(e.id, std::move(at->second));
}

void answer_call(self_ptr self, const answer& e) {
  auto& state = self->state;
  state.adds.erase(e.call);
  static auto& refused = gauges::value("supervisor_calls_refused");
  if (!e.outcome && e.outcome.error().code == ec::overloaded) ++refused;
  const auto at = state.calls.find(e.call);
  if (at == state.calls.end()) return;
  auto promise = std::move(at->second);
  state.calls.erase(at);
  if (e.outcome) return promise.deliver(e.child);
  const auto& why = e.outcome.error();
  const auto running =
      why.code == ec::already_started ? state.running.find(e.child) : state.running.end();
  promise.deliver(running == state.running.end() ? to_caf(why)
                                                 : to_caf(why, running->second.address));
}

void wake_at(self_ptr self, time_point at) {
  const auto now = now_of(self);
  if (at <= now) return self->send(self, tick::value);
  if (self->state.wakes.insert(at).second) self->delayed_send(self, at - now, tick::value);
}

void perform_one(self_ptr self, const effects::value_type& one) {
  auto& state = self->state;
  std::visit(
      overload{[&](const adopt_child& e) { adopt_one(self, e); },
               [&](const start_child& e) { start_one(self, e.id, e.incarnation); },
               [&](const stop_child& e) { end_one(self, e.id, caf::exit_reason::user_shutdown); },
               [&](const kill_child& e) {
                 static auto& killed = gauges::value("supervisor_kills");
                 ++killed;
                 end_one(self, e.id, caf::exit_reason::kill);
               },
               [&](const wake& e) { wake_at(self, e.at); },
               [&](const report_started&) {
                 state.is_up = true;
                 for (auto& promise : state.waiting) promise.deliver(caf::ok_atom::value);
                 state.waiting.clear();
               },
               [&](const report_end& e) {
                 log::warn("supervisor.child_ended_badly", {{"supervisor", state.label},
                                                            {"child", e.id},
                                                            {"reason", to_string(e.reason)}});
               },
               [&](const drop_child& e) { drop_one(self, e.id); },
               [&](const answer& e) { answer_call(self, e); },
               [&](const end& e) { finish(self, e.reason); }},
      one);
}

void perform(self_ptr self, effects more) {
  auto& state = self->state;
  for (auto& one : more) state.todo.push_back(std::move(one));
  if (std::exchange(state.is_performing, true)) return;
  while (!state.todo.empty()) {
    const auto one = std::move(state.todo.front());
    state.todo.pop_front();
    perform_one(self, one);
  }
  state.is_performing = false;
  static auto& restarts = gauges::value("supervisor_restarts");
  restarts += static_cast<std::int64_t>(state.fsm->restarts() - state.restarts_counted);
  state.restarts_counted = state.fsm->restarts();
}

void on_down(self_ptr self, const caf::down_msg& down) {
  auto& state = self->state;
  const auto at = state.ids.find(down.source.id());
  if (at == state.ids.end()) return;
  const auto id = at->second;
  state.ids.erase(at);
  const auto child = state.running.extract(id);
  const auto incarnation = child.mapped().incarnation;
  if (child.mapped().readiness) self->forget_request(*child.mapped().readiness);
  const auto reason = exit_reason_of(down.reason);
  if (const auto front = state.fronts->find(id)) clear_facade(front, to_string(reason));
  if (!reason.is_normal())
    log::warn("supervisor.child_ended",
              {{"supervisor", state.label}, {"child", id}, {"reason", to_string(reason)}});
  perform(self, state.fsm->on_exit(now_of(self), id, incarnation, reason));
}

/// Registers the caller's promise and asks the machine.
template <class Ask>
caf::result<std::string> begin_call(self_ptr self, Ask ask) {
  auto& s = self->state;
  const auto id = s.next_call++;
  auto promise = self->make_response_promise();
  if (!promise.async()) s.calls.emplace(id, promise);  // One-way callers want no answer.
  perform(self, ask(*s.fsm, now_of(self), id));
  return caf::delegated<std::string>{};
}

caf::result<std::string> add(self_ptr self, const child& c) {
  return begin_call(self, [&](supervisor_fsm& fsm, time_point now, call_id call) {
    self->state.adds.emplace(call, c);
    return fsm.on_start_child(now, call, c.spec);
  });
}

caf::result<std::string> terminate_address(self_ptr self, const caf::actor& who) {
  const auto at = self->state.ids.find(who->id());
  if (at == self->state.ids.end()) return to_caf({ec::not_found, "no child has that address", {}});
  return begin_call(self, [id = at->second](supervisor_fsm& fsm, time_point now, call_id call) {
    return fsm.on_terminate_child(now, call, id);
  });
}

using method = effects (supervisor_fsm::*)(time_point, call_id, const std::string&);
caf::result<std::string> by_id(self_ptr self, method what, const std::string& id) {
  return begin_call(self, [&](supervisor_fsm& fsm, time_point now, call_id call) {
    return (fsm.*what)(now, call, id);
  });
}

caf::behavior supervisor(self_ptr self, const std::string& label, supervisor_flags flags,
                         const std::vector<child>& children, const std::optional<child_spec>& of,
                         const std::shared_ptr<facade_set>& fronts) {
  guard(self, "supervisor");
  auto& state = self->state;
  state.label = label;
  state.fronts = fronts;
  state.fsm.emplace(flags, of, self->id());
  self->set_down_handler([self](const caf::down_msg& down) { on_down(self, down); });
  self->set_exit_handler([self](const caf::exit_msg& e) {
    if (e.reason == caf::exit_reason::kill) return self->quit(e.reason);
    auto reason = exit_reason_of(e.reason);
    if (reason.kind == exit_kind::normal) reason.kind = exit_kind::shutdown;
    perform(self, self->state.fsm->on_stop(now_of(self), reason));
  });
  self->set_error_handler([self](caf::scheduled_actor*, caf::error& e) {
    // Somebody's stray error is no reason to end a tree.
    ++gauges::value("supervisor_stray_errors");
    log::warn("supervisor.stray_error",
              {{"supervisor", self->state.label}, {"error", to_string(from_caf(e))}});
  });
  std::vector<child_spec> specs;
  specs.reserve(children.size());
  for (const auto& c : children) {
    specs.push_back(c.spec);
    state.specs.emplace(c.spec.id, c);
    state.fronts->put(c.spec.id, c.front, c.start.inner());
  }
  auto started = state.fsm->on_start(now_of(self), specs);
  if (!started) {
    log::error("supervisor.bad_spec",
               {{"supervisor", label}, {"reason", to_string(started.error())}});
    self->quit(to_caf(started.error()));
    return {};
  }
  perform(self, std::move(*started));
  caf::message_handler calls{
      [self](wait_atom) -> caf::result<caf::ok_atom> {
        if (self->state.is_up) return caf::ok_atom::value;
        self->state.waiting.push_back(self->make_response_promise());
        return caf::delegated<caf::ok_atom>{};
      },
      [self](add_child_atom, const child& c) { return add(self, c); },
      [self](terminate_atom, const std::string& id) {
        return by_id(self, &supervisor_fsm::on_terminate_child, id);
      },
      [self](terminate_atom, const caf::actor& who) { return terminate_address(self, who); },
      [self](restart_atom, const std::string& id) {
        return by_id(self, &supervisor_fsm::on_restart_child, id);
      },
      [self](delete_atom, const std::string& id) {
        return by_id(self, &supervisor_fsm::on_delete_child, id);
      },
      [self](tick) {
        auto& s = self->state;
        const auto now = now_of(self);
        s.wakes.erase(s.wakes.begin(), s.wakes.upper_bound(now));
        perform(self, s.fsm->on_tick(now));
      }};
  return calls.or_else(supervisor_queries(self)).or_else(supervisor_acts(self));
}

}  // namespace

caf::actor spawn_supervisor(caf::actor_system& system, const std::string& name,
                            supervisor_flags flags, const std::vector<child>& children,
                            const std::optional<child_spec>& of) {
  return system.spawn(supervisor, name, flags, children, of, std::make_shared<facade_set>());
}

start_function supervisor_start(const std::string& name, supervisor_flags flags,
                                const std::vector<child>& children,
                                const std::optional<child_spec>& of) {
  const auto fronts = std::make_shared<facade_set>();
  return {[=](caf::local_actor* by) -> result<caf::actor> {
            return by->system().spawn(supervisor, name, flags, children, of, fronts);
          },
          fronts};
}

}  // namespace ntrace::supervision
