#include "actors/runner/outbox_actor.hpp"

#include <caf/event_based_actor.hpp>
#include <caf/stateful_actor.hpp>

#include "actors/dispatcher/stream_data.hpp"
#include "actors/rpc/rpc_types.hpp"
#include "actors/runner/outbox_sqlite.hpp"
#include "config/crash_point.hpp"
#include "config/gauges.hpp"
#include "config/log.hpp"
#include "config/outage.hpp"
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

void tell_dispatcher(outbox_self self, say& e) {
  static constexpr std::array methods{"started", "append", "finish"};
  auto args = std::move(e.args);
  if (e.what == outbox_word::chunk) {
    args = {{"token", e.token}, {"seq", e.piece.seq}, {"stream", e.piece.stream}};
    dispatcher::put_chunk_data(args, e.piece.data);
  }
  say said{e.token, e.what, nullptr, {e.piece.seq, "", ""}};  // An answer needs no more of it.
  self->request(
          self->state.link, caf::infinite,
          rpc::call{0, methods[static_cast<std::size_t>(e.what)], json::array({std::move(args)})})
      .then(
          [self, said](const rpc::served& s) {
            crash_point("outbox.acknowledged");
            perform(self, self->state.fsm.on_stored(now_of(self), said,
                                                    s.value.value("ack", std::uint64_t{0})));
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
        overload{[&](say& e) { tell_dispatcher(self, e); },
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
        perform(self, self->state.fsm.on_started(m.token, {{"token", m.token}, {"zone", m.zone}},
                                                 m.clean));
      },
      [self](const attempt_chunk& m) {
        perform(self, self->state.fsm.on_chunk(m.token, m.stream, m.data));
      },
      [self](const attempt_finished& m) {
        json args{{"verdict", m.verdict}, {"reason", m.reason}, {"receipt", m.receipt}};
        if (m.lost_to) args["outage"] = outage_json(*m.lost_to);
        perform(self, self->state.fsm.on_finished(m.token, std::move(args), m.zone_is_broken));
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
