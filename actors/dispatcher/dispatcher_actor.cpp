#include "actors/dispatcher/dispatcher_state.hpp"

#include <caf/stateful_actor.hpp>

#include <algorithm>

#include "actors/journal/journal_actor.hpp"
#include "config/clock.hpp"
#include "config/crash_point.hpp"
#include "config/gauges.hpp"
#include "config/limits.hpp"
#include "config/log.hpp"
#include "config/overload.hpp"
#include "supervision/caf_types.hpp"
#include "supervision/supervisor_actor.hpp"

namespace ntrace::dispatcher {
namespace {

using nlohmann::json;
using rpc::call;
using rpc::served;
using supervision::now_of;
using supervision::to_caf;

json as_json(const rpc::answer_value& value) { return to_json(value); }

}  // namespace

request_id remember(dispatcher_self self, const caf::response_promise& promise) {
  const auto id = self->state.next_request++;
  self->state.requests.emplace(id, promise);
  return id;
}

void settle(dispatcher_self self, request_id request, result<json> value) {
  const auto at = self->state.requests.find(request);
  if (at == self->state.requests.end()) return;
  auto promise = std::move(at->second);
  self->state.requests.erase(at);
  crash_point("dispatcher.before_answer");
  if (value) return promise.deliver(served{std::move(*value)});
  if (value.error().code == ec::stale_lease) ++gauges::value("dispatcher_stale_refused");
  promise.deliver(to_caf(value.error()));
}

void perform(dispatcher_self self, effects todo) {
  auto& state = self->state;
  for (auto& one : todo) {
    std::visit(
        overload{[&](commit& e) {
                   // Commits that wait in the mailbox join this write.
                   if (state.writes.empty()) self->send(self, flush_atom::value);
                   state.write_tags.push_back(e.tag);
                   state.writes.push_back(std::move(e.ops));
                 },
                 [&](answer& e) { settle(self, e.request, e.value.map(as_json)); },
                 [&](offer& e) {
                   crash_point("dispatcher.before_offer");
                   self->send(state.parts.server,
                              rpc::notify{e.session, "offer", json::array({to_json(e.run)})});
                 },
                 [&](abort_attempt& e) {
                   self->send(state.parts.server,
                              rpc::notify{e.session, "abort",
                                          json::array({to_json(rpc::about_token{e.token})})});
                 },
                 [&](wake& e) {
                   if (!state.timer.set(e.at)) return;
                   self->delayed_send(self, std::max(time_point::duration{0}, e.at - now_of(self)),
                                      tick_atom::value);
                 },
                 [&](changed& e) { wake_watchers(self, e.run); }},
        one);
  }
  static auto& open_runs = gauges::value("queue_open_runs");
  open_runs = static_cast<std::int64_t>(state.fsm->open_runs());
}

void take_pushed(dispatcher_self self) {
  auto& state = self->state;
  if (state.fsm && !state.parts.gate->is_empty()) perform(self, state.fsm->on_pushed(now_of(self)));
}

namespace {

void flush(dispatcher_self self) {
  auto& state = self->state;
  journal::write_request all{std::exchange(state.writes, {})};
  auto tags = std::make_shared<std::vector<std::uint64_t>>(std::exchange(state.write_tags, {}));
  self->request(state.parts.journal, caf::infinite, std::move(all))
      .then(
          [self, tags](const journal::written& done) {
            for (std::size_t i = 0; i < tags->size(); ++i)
              perform(self,
                      self->state.fsm->on_committed(now_of(self), (*tags)[i], done.outcomes.at(i)));
          },
          [self, tags](const caf::error& why) {
            auto e = supervision::from_caf(why);
            // Whether a dying writer had committed is not known: nobody is told yes.
            if (e.code == ec::child_failed)
              e = {ec::journal_failed, "the journal restarts; try again", {}};
            for (const auto tag : *tags)
              perform(self, self->state.fsm->on_committed(now_of(self), tag, fail(e)));
          });
}

/// Peers with these numbers are gone. What they asked before is still served, and must not leave a
/// session behind.
void note_gone_early(dispatcher_state& state, peer_id from, peer_id to) {
  for (const auto& [promise, c] : state.early)
    if (c.peer >= from && c.peer < to) state.gone_early.insert(c.peer);
}

caf::behavior dispatcher(dispatcher_self self, const dispatcher_parts& parts) {
  supervision::guard(self, "dispatcher");
  self->state.parts = parts;
  recover(self);
  return {
      [self](const call& c) -> caf::result<served> {
        auto promise = self->make_response_promise();
        take_pushed(self);
        if (can_be_served(self->state, c.method))
          serve(self, promise, c);
        else if (self->state.early.size() < limits::unanswered_max)
          self->state.early.emplace_back(promise, c);
        else {
          ++gauges::value("dispatcher_early_refused");
          promise.deliver(
              to_caf({ec::overloaded, "the dispatcher reads its queue; try again", {}}));
        }
        return caf::delegated<served>{};
      },
      [self](const rpc::peer_gone& gone) {
        note_gone_early(self->state, gone.peer, gone.peer + 1);
        if (self->state.fsm)
          perform(self, self->state.fsm->on_session_gone(now_of(self), gone.peer));
      },
      [self](const rpc::port_opened& port) {
        note_gone_early(self->state, 0, port.first);
        if (self->state.fsm)
          perform(self, self->state.fsm->on_port_opened(now_of(self), port.first));
      },
      [self](supervision::wait_atom) -> caf::result<caf::ok_atom> {
        if (self->state.is_ready || self->state.takes_pushes) return caf::ok_atom::value;
        self->state.waiting.push_back(self->make_response_promise());
        return caf::delegated<caf::ok_atom>{};
      },
      [self](tick_atom) {
        static auto& ticks = gauges::value("queue_ticks");
        ++ticks;
        if (!self->state.timer.ring(now_of(self))) return;
        take_pushed(self);
        if (self->state.fsm) perform(self, self->state.fsm->on_tick(now_of(self)));
      },
      [self](tick_atom, const std::string& run) { wake_watchers(self, run); },
      [self](flush_atom) { flush(self); },
      [self](pushed_atom) { take_pushed(self); },
      [self](stop_atom) {
        if (self->state.fsm) self->state.fsm->on_stopping();
      },
      [self](idle_atom) -> std::uint64_t { return self->state.fsm ? self->state.fsm->held() : 0; }};
}

}  // namespace

result<caf::actor> spawn_dispatcher(caf::actor_system& system, const dispatcher_parts& parts) {
  return caf::actor_cast<caf::actor>(system.spawn(dispatcher, parts));
}

}  // namespace ntrace::dispatcher
