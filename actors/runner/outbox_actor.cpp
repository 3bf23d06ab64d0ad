#include "actors/runner/outbox_actor.hpp"

#include <caf/event_based_actor.hpp>
#include <caf/stateful_actor.hpp>

#include "actors/dispatcher/stream_data.hpp"
#include "actors/rpc/rpc_types.hpp"
#include "actors/runner/outbox_fsm.hpp"
#include "config/gauges.hpp"
#include "config/log.hpp"
#include "config/overload.hpp"
#include "supervision/caf_types.hpp"

namespace ntrace::runner {
namespace {

using nlohmann::json;
using supervision::now_of;
using tick_atom = caf::atom_constant<caf::atom("tick")>;

struct outbox_state {
  const char* name = "outbox";
  caf::actor link, runner;
  outbox_fsm fsm;
};
using outbox_self = caf::stateful_actor<outbox_state>*;

void perform(outbox_self self, outbox_effects todo);

void tell_dispatcher(outbox_self self, const say& e) {
  static constexpr std::array methods{"started", "append", "finish"};
  auto args = e.args;
  if (e.what == outbox_word::chunk) {
    args = {{"token", e.token}, {"seq", e.piece.seq}, {"stream", e.piece.stream}};
    dispatcher::put_chunk_data(args, e.piece.data);
  }
  auto said = e;
  said.piece.data.clear();  // The queue keeps it; an answer needs the number only.
  self->request(
          self->state.link, caf::infinite,
          rpc::call{0, methods[static_cast<std::size_t>(e.what)], json::array({std::move(args)})})
      .then(
          [self, said](const rpc::served& s) {
            perform(self, self->state.fsm.on_stored(now_of(self), said,
                                                    s.value.value("ack", std::uint64_t{0})));
          },
          [self, token = e.token](const caf::error& why) {
            perform(self,
                    self->state.fsm.on_refused(now_of(self), token, supervision::from_caf(why)));
          });
}

void perform(outbox_self self, outbox_effects todo) {
  auto& s = self->state;
  for (auto& one : todo) {
    std::visit(overload{[&](const say& e) { tell_dispatcher(self, e); },
                        [&](const drop_stale& e) {
                          log::warn("outbox.dropped", {{"token", e.token}, {"reason", e.reason}});
                          ++gauges::value("outbox_dropped_attempts");
                          self->send(s.runner, attempt_stale{e.token});
                        },
                        [&](const attempt_done& e) {
                          self->send(s.runner, attempt_over{e.token, e.zone_is_broken, e.clean});
                        },
                        [&](const word_dropped& e) {
                          ++gauges::value("outbox_dropped_words");
                          if (e.is_first) log::warn("outbox.full", {{"token", e.token}});
                        },
                        [&](const say_again& e) {
                          ++gauges::value("outbox_retries");
                          self->delayed_send(self, e.at - now_of(self), tick_atom::value);
                        }},
               one);
  }
  gauges::value("outbox_bytes") = static_cast<std::int64_t>(s.fsm.bytes());
}

caf::behavior outbox(outbox_self self, const caf::actor& link, const caf::actor& runner) {
  supervision::guard(self, "outbox");
  self->state.link = link;
  self->state.runner = runner;
  return {
      [self](const attempt_begun& m) { self->state.fsm.on_begun(m.token); },
      [self](const attempt_started& m) {
        perform(self, self->state.fsm.on_started(m.token, {{"token", m.token}, {"zone", m.zone}},
                                                 m.clean));
      },
      [self](const attempt_chunk& m) {
        perform(self, self->state.fsm.on_chunk(m.token, m.stream, m.data));
      },
      [self](const attempt_finished& m) {
        perform(self,
                self->state.fsm.on_finished(
                    m.token, {{"verdict", m.verdict}, {"reason", m.reason}, {"receipt", m.receipt}},
                    m.zone_is_broken));
      },
      [self](const attempts_lost& m) { perform(self, self->state.fsm.on_attempts_lost(m.reason)); },
      [self](const rpc::link_up&) { perform(self, self->state.fsm.on_link_up()); },
      [self](const rpc::link_lost&) { self->state.fsm.on_link_lost(); },
      [self](tick_atom) { perform(self, self->state.fsm.on_tick(now_of(self))); }};
}

}  // namespace

result<caf::actor> spawn_outbox(caf::actor_system& system, const caf::actor& link,
                                const caf::actor& runner) {
  return system.spawn(outbox, link, runner);
}

}  // namespace ntrace::runner
