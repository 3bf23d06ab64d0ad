#include "actors/journal/journal_actor.hpp"

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/journal/journal_sqlite.hpp"
#include "config/gauges.hpp"
#include "config/limits.hpp"
#include "config/log.hpp"
#include "supervision/caf_types.hpp"

namespace ntrace::journal {
namespace {

using supervision::to_caf;

struct writer_state {
  const char* name = "journal";
  std::shared_ptr<journal_sqlite> db;
  std::vector<batch> batches;
  std::vector<caf::typed_response_promise<committed>> promises;
  bool flush_sent = false;
};
using writer_self = journal_actor::stateful_pointer<writer_state>;

void flush(writer_self self) {
  auto& state = self->state;
  state.flush_sent = false;
  auto batches = std::move(state.batches);
  auto promises = std::move(state.promises);
  state.batches.clear();
  state.promises.clear();
  static auto& queued = gauges::value("journal_queued");
  queued = 0;
  const auto done = state.db->commit(batches);
  if (!done)
    log::error("journal.commit_failed",
               {{"batches", batches.size()}, {"reason", to_string(done.error())}});
  for (std::size_t i = 0; i < promises.size(); ++i) {
    if (done)
      promises[i].deliver((*done)[i]);
    else
      promises[i].deliver(to_caf(done.error()));
  }
  ++gauges::value("journal_commits");
}

journal_actor::behavior_type writer(writer_self self, const std::shared_ptr<journal_sqlite>& db) {
  supervision::guard(self, "journal");
  self->state.db = db;
  return {[self](const write_request& w) -> caf::result<committed> {
            auto& state = self->state;
            if (state.batches.size() >= limits::journal_queue_max)
              return to_caf({ec::overloaded, "the journal's queue is full; try again later", {}});
            auto promise = self->make_response_promise<committed>();
            state.batches.push_back(w.ops);
            state.promises.push_back(promise);
            gauges::value("journal_queued") = static_cast<std::int64_t>(state.batches.size());
            // What is in the mailbox before this message shares the transaction and its fsync.
            if (state.batches.size() >= limits::batch_max)
              flush(self);
            else if (!std::exchange(state.flush_sent, true))
              self->send(self, flush_atom::value);
            return promise;
          },
          [self](recover_atom) -> caf::result<recovery> {
            auto runs = self->state.db->open_runs();
            auto token = self->state.db->highest_token();
            if (!runs || !token) return to_caf(runs ? token.error() : runs.error());
            return recovery{std::move(*runs), *token};
          },
          [self](flush_atom) {
            if (!self->state.batches.empty()) flush(self);
          }};
}

struct reader_state {
  const char* name = "journal_reader";
  std::shared_ptr<journal_sqlite> db;
};
using reader_self = journal_reader::stateful_pointer<reader_state>;

constexpr std::size_t logs_bytes_max = 1u << 20;  // of one answer, well below a line

result<nlohmann::json> read(journal_sqlite& db, const read_request& r) try {
  const auto run = r.args.value("run", "");
  if (r.what == "runs") return db.runs(r.args);
  if (r.what == "show") return db.show(run);
  if (r.what == "why") return db.why(run);
  if (r.what == "counts") return db.counts();
  if (r.what == "logs")
    return db.logs(run, r.args.value("after", std::uint64_t{0}), r.args.value("stream", ""),
                   logs_bytes_max);
  return fail(ec::defect, "the journal cannot read " + r.what);
} catch (const nlohmann::json::exception& e) {
  // An ill-typed filter is the asker's mistake.
  return fail(ec::bad_argument, r.what + ": " + e.what());
}

journal_reader::behavior_type reader(reader_self self, const std::shared_ptr<journal_sqlite>& db) {
  supervision::guard(self, "journal_reader");
  self->state.db = db;
  return {[self](const read_request& r) -> caf::result<read_answer> {
    auto value = read(*self->state.db, r);
    if (!value) return to_caf(value.error());
    return read_answer{std::move(*value)};
  }};
}

}  // namespace

result<caf::actor> spawn_journal(caf::actor_system& system, const std::string& path) {
  auto db = journal_sqlite::open(path, journal_sqlite::role::writer);
  if (!db) return fail(db.error());
  return caf::actor_cast<caf::actor>(
      system.spawn<caf::detached>(writer, std::shared_ptr<journal_sqlite>{std::move(*db)}));
}

result<caf::actor> spawn_journal_reader(caf::actor_system& system, const std::string& path) {
  auto db = journal_sqlite::open(path, journal_sqlite::role::reader);
  if (!db) return fail(db.error());
  return caf::actor_cast<caf::actor>(
      system.spawn<caf::detached>(reader, std::shared_ptr<journal_sqlite>{std::move(*db)}));
}

}  // namespace ntrace::journal
