#include "actors/runner/outbox_actor.hpp"

#include <caf/event_based_actor.hpp>
#include <caf/stateful_actor.hpp>

#include <map>

#include "actors/dispatcher/stream_data.hpp"
#include "actors/rpc/rpc_types.hpp"
#include "actors/runner/outbox_fsm.hpp"
#include "config/gauges.hpp"
#include "config/log.hpp"
#include "supervision/caf_types.hpp"

namespace ntrace::runner {
namespace {

using nlohmann::json;
using retry_atom = caf::atom_constant<caf::atom("retry")>;

constexpr milliseconds retry_wait{500};  // after an answer that may be better next time

struct entry {
  outbox_fsm chunks;
  json started, clean;  ///< Null once acknowledged, or before.
  std::optional<json> finish;
  bool is_started_sent = false, is_finish_sent = false, is_retry_set = false, was_full = false;
};

struct outbox_state {
  const char* name = "outbox";
  caf::actor link, runner;
  std::map<std::uint64_t, entry> entries;
  bool is_up = false;
};
using outbox_self = caf::stateful_actor<outbox_state>*;

void pump(outbox_self self, std::uint64_t token);

void count_bytes(outbox_self self) {
  std::size_t bytes = 0;
  for (const auto& [token, e] : self->state.entries) bytes += e.chunks.bytes();
  gauges::value("outbox_bytes") = static_cast<std::int64_t>(bytes);
}

entry* find(outbox_self self, std::uint64_t token) {
  const auto at = self->state.entries.find(token);
  return at == self->state.entries.end() ? nullptr : &at->second;
}

/// What to do when the dispatcher did not take something: forget it when the lease is gone, else
/// send it all again in a moment.
void on_refusal(outbox_self self, std::uint64_t token, const caf::error& why) {
  auto* e = find(self, token);
  if (!e) return;
  const auto ours = supervision::from_caf(why);
  if (ours.code == ec::stale_lease) {
    log::warn("outbox.dropped", {{"token", token}, {"reason", ours.message}});
    ++gauges::value("outbox_dropped_attempts");
    self->state.entries.erase(token);
    self->send(self->state.runner, attempt_stale{token});
    return count_bytes(self);
  }
  e->chunks.on_rewind();
  e->is_started_sent = e->is_finish_sent = false;
  if (!self->state.is_up || std::exchange(e->is_retry_set, true)) return;
  ++gauges::value("outbox_retries");
  self->delayed_send(self, retry_wait, retry_atom::value, token);
}

template <class Then>
void call_link(outbox_self self, std::uint64_t token, const char* method, json args, Then then) {
  self->request(self->state.link, caf::infinite,
                rpc::call{0, method, json::array({std::move(args)})})
      .then([then](const rpc::served& s) { then(s.value); },
            [self, token](const caf::error& e) { on_refusal(self, token, e); });
}

void pump(outbox_self self, std::uint64_t token) {
  auto* e = find(self, token);
  if (!e || !self->state.is_up || e->is_retry_set) return;
  if (!e->started.is_null() && !std::exchange(e->is_started_sent, true)) {
    call_link(self, token, "started", e->started, [self, token](const json&) {
      if (auto* again = find(self, token)) again->started = nullptr;
    });
  }
  for (const auto& chunk : e->chunks.take_sendable()) {
    json args{{"token", token}, {"seq", chunk.seq}, {"stream", chunk.stream}};
    dispatcher::put_chunk_data(args, chunk.data);
    call_link(self, token, "append", std::move(args), [self, token](const json& answer) {
      auto* again = find(self, token);
      if (!again) return;
      again->chunks.on_ack(answer.value("ack", std::uint64_t{0}));
      count_bytes(self);
      pump(self, token);
    });
  }
  if (e->finish && e->chunks.may_finish() && !std::exchange(e->is_finish_sent, true)) {
    call_link(self, token, "finish", *e->finish,
              [self, token](const json&) { self->state.entries.erase(token); });
  }
}

void on_finished(outbox_self self, const attempt_finished& m) {
  auto& state = self->state;
  json clean;
  if (auto* e = find(self, m.token); e && !e->finish) {
    e->chunks.on_close();
    clean = e->clean;
    e->finish = json{{"token", m.token},
                     {"verdict", m.verdict},
                     {"reason", m.reason},
                     {"receipt", m.receipt},
                     {"last_seq", e->chunks.last_seq()}};
    pump(self, m.token);
  }
  self->send(state.runner, attempt_over{m.token, m.zone_is_broken, clean});
}

caf::behavior outbox(outbox_self self, const caf::actor& link, const caf::actor& runner) {
  supervision::guard(self, "outbox");
  self->state.link = link;
  self->state.runner = runner;
  return {[self](const attempt_started& m) {
            auto& e = self->state.entries[m.token];
            e.started = {{"token", m.token}, {"zone", m.zone}};
            e.clean = m.clean;
            pump(self, m.token);
          },
          [self](const attempt_chunk& m) {
            auto& e = self->state.entries[m.token];
            if (!e.chunks.on_append(m.stream, m.data)) {
              ++gauges::value("outbox_dropped_chunks");
              if (!std::exchange(e.was_full, true))
                log::warn("outbox.full", {{"token", m.token}, {"bytes", e.chunks.bytes()}});
              return;
            }
            count_bytes(self);
            pump(self, m.token);
          },
          [self](const attempt_finished& m) {
            self->state.entries.try_emplace(m.token);
            on_finished(self, m);
          },
          [self](const rpc::link_up&) {
            self->state.is_up = true;
            std::vector<std::uint64_t> tokens;
            for (auto& [token, e] : self->state.entries) tokens.push_back(token);
            for (const auto token : tokens) pump(self, token);
          },
          [self](const rpc::link_lost&) {
            self->state.is_up = false;
            for (auto& [token, e] : self->state.entries) {
              e.chunks.on_rewind();
              e.is_started_sent = e.is_finish_sent = false;
            }
          },
          [self](retry_atom, std::uint64_t token) {
            if (auto* e = find(self, token)) {
              e->is_retry_set = false;
              pump(self, token);
            }
          }};
}

}  // namespace

result<caf::actor> spawn_outbox(caf::actor_system& system, const caf::actor& link,
                                const caf::actor& runner) {
  return system.spawn(outbox, link, runner);
}

}  // namespace ntrace::runner
