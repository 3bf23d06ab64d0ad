// How the dispatcher comes to know what the journal holds.
#include <caf/event_based_actor.hpp>
#include <caf/send.hpp>

#include <set>
#include <utility>

#include "actors/dispatcher/dispatcher_state.hpp"
#include "actors/journal/journal_actor.hpp"
#include "config/crash_point.hpp"
#include "config/log.hpp"
#include "supervision/caf_types.hpp"

namespace ntrace::dispatcher {

using supervision::now_of;

bool can_be_served(const dispatcher_state& state, const std::string& name) {
  static const std::set<std::string> early_methods{"runs",  "show",   "logs",   "why",
                                                   "drain", "resume", "status", "tree"};
  return state.is_ready || (state.takes_pushes && early_methods.count(name) != 0);
}

namespace {

void serve_what_can_be(dispatcher_self self) {
  auto& state = self->state;
  for (auto& promise : std::exchange(state.waiting, {})) promise.deliver(caf::ok_atom::value);
  for (auto& [promise, c] : std::exchange(state.early, {}))
    if (can_be_served(state, c.method))
      serve(self, promise, c);
    else
      state.early.emplace_back(promise, c);
}

void serve_from_now(dispatcher_self self) {
  auto& state = self->state;
  state.is_ready = true;
  state.fsm->on_recovery_end();
  crash_point("dispatcher.recovered");
  log::info("dispatcher.recovered", {{"open_runs", state.fsm->open_runs()}});
  serve_what_can_be(self);
  for (const auto peer : std::exchange(state.gone_early, {}))
    perform(self, state.fsm->on_session_gone(now_of(self), peer));
}

/// The queue comes in page by page, so that a long one is never in memory twice. All of it is read
/// before anybody is told yes, so that a damaged journal is found first; but pushes wait no longer
/// than this for a very long queue.
constexpr milliseconds pushes_wait_max{500};
void load_page(dispatcher_self self, journal::page_request from) {
  self->request(self->state.parts.journal, caf::infinite, std::move(from))
      .then(
          [self](const journal::page& p) {
            take_pushed(self);
            perform(self, self->state.fsm->on_recovered(now_of(self), wall_ms(), p.runs));
            auto& state = self->state;
            if (p.is_last) return serve_from_now(self);
            if (!state.takes_pushes && now_of(self) - state.began >= pushes_wait_max) {
              state.takes_pushes = true;
              log::info("dispatcher.takes_pushes", {{"open_runs", state.fsm->open_runs()}});
              serve_what_can_be(self);
            }
            load_page(self, {p.last});
          },
          [self](const caf::error& e) { self->quit(e); });
}

/// A worker that is free waits no longer than this for a push; what comes meanwhile is taken in
/// with it.
constexpr milliseconds pushed_wait{1};

}  // namespace

void recover(dispatcher_self self) {
  self->state.began = now_of(self);
  self->state.parts.gate->on_first([to = self->address()] {
    if (const auto at = caf::actor_cast<caf::actor>(to))
      caf::delayed_anon_send(at, pushed_wait, pushed_atom::value);
  });
  self->request(self->state.parts.journal, caf::infinite, journal::recover_atom::value)
      .then(
          [self](const journal::recovery& r) {
            auto& state = self->state;
            state.fsm.emplace(state.parts.options, r.highest_token, random_seed(),
                              *state.parts.gate);
            log::info("dispatcher.recovering", {{"leased", r.runs.size()},
                                                {"token", r.highest_token},
                                                {"draining", r.is_draining}});
            state.fsm->on_drain_recovered(r.is_draining);
            perform(self, state.fsm->on_recovered(now_of(self), wall_ms(), r.runs));
            load_page(self, {});
          },
          [self](const caf::error& e) { self->quit(e); });
}

}  // namespace ntrace::dispatcher
