#include "actors/runner/outbox_actor.hpp"

#include <caf/event_based_actor.hpp>
#include <caf/stateful_actor.hpp>

#include "actors/rpc/rpc_link_actor.hpp"
#include "actors/runner/outbox_sqlite.hpp"
#include "config/crash_point.hpp"
#include "config/gauges.hpp"
#include "config/log.hpp"
#include "config/overload.hpp"
#include "supervision/caf_types.hpp"

namespace ntrace::runner {
namespace {

using nlohmann::json;
using supervision::now_of;
using tick_atom = caf::atom_constant<caf::atom("tick")>;
using flush_atom = caf::atom_constant<caf::atom("flush")>;

struct outbox_state {
  const char* name = "outbox";
  caf::actor link, runner;
  std::shared_ptr<outbox_sqlite> disk;
  outbox_fsm fsm;
};
using outbox_self = caf::stateful_actor<outbox_state>*;

void perform(outbox_self self, outbox_effects todo);

void on_answer(outbox_self self, const said_word& said, const json& value) {
  auto& fsm = self->state.fsm;
  if (said.what != outbox_word::append) return perform(self, fsm.on_stored(now_of(self), said, 0));
  const auto answer = rpc::parse_append_answer(value);
  if (!answer)
    log::error("outbox.strange_answer",
               {{"token", said.token}, {"reason", to_string(answer.error())}});
  perform(self, answer ? fsm.on_stored(now_of(self), said, answer->ack)
                       : fsm.on_refused(now_of(self), said.token, answer.error()));
}

void tell_dispatcher(outbox_self self, const say& e) {
  const auto said = e.about();  // An answer needs no more of it.
  auto args = json::array({std::visit([](const auto& m) { return to_json(m); }, e.message)});
  self->request(self->state.link, caf::infinite,
                rpc::call{0, std::string{to_string(said.what)}, std::move(args)})
      .then(
          [self, said](const rpc::served& s) {
            crash_point("outbox.acknowledged");
            on_answer(self, said, s.value);
          },
          [self, token = said.token](const caf::error& why) {
            perform(self,
                    self->state.fsm.on_refused(now_of(self), token, supervision::from_caf(why)));
          });
}

void perform(outbox_self self, outbox_effects todo) {
  auto& s = self->state;
  for (auto& one : todo) {
    std::visit(
        overload{[&](const say& e) { tell_dispatcher(self, e); },
                 // What is in the mailbox before this message shares the write.
                 [&](const flush_soon&) { self->send(self, flush_atom::value); },
                 [&](const keep& e) {
                   crash_point("outbox.before_write");
                   const auto done = s.disk->write(e.records);
                   crash_point("outbox.after_write");
                   ++gauges::value("outbox_commits");
                   if (!done) {
                     ++gauges::value("outbox_write_failures");
                     log::error("outbox.write_failed", {{"records", e.records.size()},
                                                        {"reason", to_string(done.error())}});
                   }
                   perform(self, s.fsm.on_kept(now_of(self), done));
                   // The same fsync is not tried again: the supervisor reads the file anew.
                   if (!done && done.error().code == ec::journal_lost)
                     self->quit(supervision::to_caf(done.error()));
                 },
                 [&](const load& e) {
                   const auto found = s.disk->chunks(e.token, e.from, e.to);
                   if (!found) {
                     ++gauges::value("outbox_read_failures");
                     log::error("outbox.read_failed",
                                {{"token", e.token}, {"reason", to_string(found.error())}});
                   }
                   perform(self, s.fsm.on_loaded(e.token, found));
                 },
                 [&](const drop_stale& e) {
                   log::warn("outbox.dropped", {{"token", e.token}, {"reason", e.reason}});
                   ++gauges::value("outbox_dropped_attempts");
                   self->send(s.runner, e);
                 },
                 [&](const attempt_done& e) { self->send(s.runner, e); },
                 [&](const delivered& e) {
                   crash_point("outbox.delivered");
                   self->send(s.runner, e);
                 },
                 [&](const give_up& e) {
                   log::warn("outbox.gave_up", {{"token", e.token}, {"reason", e.reason}});
                   ++gauges::value("outbox_gave_up");
                   self->send(s.runner, e);
                 },
                 [&](const room_changed& e) {
                   log::warn("outbox.room", {{"has_room", e.has_room}, {"bytes", s.fsm.bytes()}});
                   self->send(s.runner, e);
                 },
                 [&](const word_dropped&) { ++gauges::value("outbox_dropped_words"); },
                 [&](const say_again& e) {
                   ++gauges::value("outbox_retries");
                   self->delayed_send(self, e.at - now_of(self), tick_atom::value);
                 }},
        one);
  }
  gauges::value("outbox_bytes") = static_cast<std::int64_t>(s.fsm.bytes());
  gauges::value("outbox_attempts") = static_cast<std::int64_t>(s.fsm.size());
}

caf::behavior outbox(outbox_self self, const std::shared_ptr<outbox_sqlite>& disk,
                     const outbox_bounds& bounds, const std::vector<kept_attempt>& found,
                     const caf::actor& link, const caf::actor& runner) {
  supervision::guard(self, "outbox");
  auto& s = self->state;
  s.link = link;
  s.runner = runner;
  s.disk = disk;
  s.fsm = outbox_fsm{bounds};
  if (!found.empty()) log::info("outbox.recovered", {{"attempts", found.size()}});
  perform(self, s.fsm.on_recovered(found));
  return {
      [self](const attempt_begun& m) { perform(self, self->state.fsm.on_begun(m.token, m.run)); },
      [self](const attempt_started& m) {
        perform(self, self->state.fsm.on_started({m.token, m.zone}, m.clean));
      },
      [self](const attempt_chunk& m) {
        perform(self, self->state.fsm.on_chunk(m.token, m.stream, m.data));
      },
      [self](const attempt_finished& m) {
        perform(self, self->state.fsm.on_finished(
                          {m.token, m.how, m.reason, m.receipt, m.lost_to, {}}, m.zone_is_broken));
      },
      [self](const attempts_lost& m) { perform(self, self->state.fsm.on_attempts_lost(m.reason)); },
      [self](const rpc::link_up&) { perform(self, self->state.fsm.on_link_up()); },
      [self](const rpc::link_lost&) { self->state.fsm.on_link_lost(); },
      [self](flush_atom) { perform(self, self->state.fsm.on_flush()); },
      [self](tick_atom) { perform(self, self->state.fsm.on_tick(now_of(self))); }};
}

}  // namespace

result<caf::actor> spawn_outbox(caf::actor_system& system, const outbox_options& options,
                                const caf::actor& link, const caf::actor& runner) {
  auto disk = outbox_sqlite::open(options.path);
  if (!disk) return fail(disk.error());
  auto found = (*disk)->attempts();
  if (!found) return fail(found.error());
  return system.spawn<caf::detached>(outbox, std::shared_ptr<outbox_sqlite>{std::move(*disk)},
                                     options.bounds, std::move(*found), link, runner);
}

}  // namespace ntrace::runner
