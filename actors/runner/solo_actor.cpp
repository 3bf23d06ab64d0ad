#include "actors/runner/solo_actor.hpp"

#include <caf/event_based_actor.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>

#include "config/log.hpp"
#include "supervision/caf_types.hpp"
#include "supervision/supervisor_actor.hpp"

namespace ntrace::runner {
namespace {

using again_atom = caf::atom_constant<caf::atom("again")>;
using born_atom = caf::atom_constant<caf::atom("born")>;

struct solo_state {
  const char* name = "solo";
  solo_spec spec;
  caf::response_promise promise;
  caf::actor attempt;
  std::uint64_t token = 0;  ///< Of the attempt under way; also their count.
  bool is_cancelled = false;
  random_source random{random_seed()};
};
using solo_self = caf::stateful_actor<solo_state>*;

void start(solo_self self) {
  auto& s = self->state;
  const auto token = ++s.token;
  const attempt_spec spec{"profile",     token,       token,      s.spec.source,
                          s.spec.worker, s.spec.zone, s.spec.self};
  supervision::child child;
  child.spec.id = "attempt_" + std::to_string(token);
  child.start = [options = s.spec.options, spec, me = s.spec.self,
                 token](caf::local_actor* by) -> result<caf::actor> {
    auto made = spawn_attempt(by->system(), options, spec);
    if (made) caf::anon_send(me, born_atom::value, token, *made);
    return made;
  };
  self->send(s.spec.attempt_sup, supervision::add_child_atom::value, child);
}

/// A path that somebody has just typed, and that is not there, is a mistake.
attempt_finished told_at_once(attempt_finished m) {
  if (!m.lost_to || m.lost_to->cause != outage_cause::absent) return m;
  m.how = domain::verdict::source_failed;
  m.reason = to_string(error{ec::not_found, m.lost_to->message, {}});
  return m;
}

/// The zone is emptied after each attempt, whatever became of it.
void on_finished(solo_self self, const attempt_finished& m) {
  auto& s = self->state;
  if (m.token != s.token) return;
  s.attempt = nullptr;
  const auto next = [self, m] {
    auto& state = self->state;
    // Somebody sits before it: an outage is told at once, and they decide when to try again.
    const bool again = m.how == domain::verdict::infrastructure && !m.lost_to &&
                       !state.is_cancelled && state.token < state.spec.attempts;
    if (!again) return state.promise.deliver(solo_end{told_at_once(m), state.token});
    const auto wait =
        backoff_wait(state.spec.backoff, static_cast<unsigned>(state.token) - 1, state.random);
    log::warn("attempt.retried",
              {{"attempt", state.token}, {"reason", m.reason}, {"wait_ms", wait.count()}});
    self->delayed_send(self, wait, again_atom::value);
  };
  self->request(s.spec.zone, std::chrono::minutes{2}, zone::end_atom::value)
      .then([next](caf::ok_atom) { next(); }, [next](const caf::error&) { next(); });
}

caf::behavior solo(solo_self self, const solo_spec& spec) {
  supervision::guard(self, "solo");
  self->state.spec = spec;
  self->set_down_handler([self](const caf::down_msg& down) {
    auto& s = self->state;
    const auto reason = supervision::exit_reason_of(down.reason);
    if (!s.attempt || s.attempt->address() != down.source || reason.is_normal()) return;
    attempt_finished lost{s.token};
    lost.reason = "the attempt's actor ended: " + reason.text;
    on_finished(self, lost);
  });
  return {[self](run_atom) -> caf::result<solo_end> {
            self->state.promise = self->make_response_promise();
            start(self);
            return caf::delegated<solo_end>{};
          },
          [self](again_atom) { start(self); },
          [self](born_atom, std::uint64_t token, const caf::actor& who) {
            if (token != self->state.token) return;
            self->state.attempt = who;
            self->monitor(who);
          },
          [](const attempt_started&) {},
          [self](const attempt_chunk& m) {
            if (m.token == self->state.token) self->state.spec.on_chunk(m.token, m.stream, m.data);
          },
          [self](const attempt_finished& m) { on_finished(self, m); },
          [self](cancel_atom, const std::string& reason) {
            self->state.is_cancelled = true;
            if (self->state.attempt) self->send(self->state.attempt, cancel_atom::value, reason);
          }};
}

}  // namespace

result<caf::actor> spawn_solo(caf::actor_system& system, const solo_spec& spec) {
  return system.spawn(solo, spec);
}

}  // namespace ntrace::runner
