#include "actors/journal/journal_actor.hpp"

#include <sched.h>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include <thread>

#include "actors/journal/group_commit_fsm.hpp"
#include "config/backoff.hpp"
#include "config/busy_poll.hpp"
#include "config/clock.hpp"
#include "config/crash_point.hpp"
#include "config/gauges.hpp"
#include "config/log.hpp"
#include "config/overload.hpp"
#include "supervision/caf_types.hpp"

namespace ntrace::journal {
namespace {

using supervision::to_caf;

constexpr backoff_policy reopen_wait{milliseconds{50}, milliseconds{5000}};
constexpr milliseconds retain_every{10'000};
constexpr std::size_t page_runs =
    2000;  // read in some milliseconds, during which nothing is written

/// A request of which not all outcomes are known.
struct open_request {
  std::variant<caf::typed_response_promise<written>, std::shared_ptr<write_sink>> asker;
  std::vector<result<committed>> outcomes;
  std::size_t missing = 0;
};

struct writer_state {
  const char* name = "journal";
  std::shared_ptr<journal_sqlite> db;
  group_commit_fsm fsm;
  busy_poll poll{std::thread::hardware_concurrency()};
  std::map<std::uint64_t, open_request> open;  ///< By the tag of its first batch.
  std::uint64_t next_tag = 1;
  std::string path;
  std::shared_ptr<run_sink> new_runs;
  bool is_lost = false;  ///< A write or fsync failed: nothing is written before it is read anew.
  unsigned reopens = 0;
  retention keep;
  retained gone;  ///< Since it was logged last.
  random_source random{random_seed()};
};
using writer_self = journal_actor::stateful_pointer<writer_state>;

result<std::vector<committed>> commit(writer_state& state, const std::vector<batch>& batches) {
  if (state.is_lost)
    return fail(ec::journal_lost, "the journal " + state.path +
                                      " failed a write and is being read anew; try again later");
  crash_point("journal.before_commit");
  auto done = state.db->commit(batches);
  crash_point("journal.after_commit");
  return done;
}

/// The same fsync is never tried again: what it should have written may be gone from memory and
/// not be on the disk. docs/operations.md, "What to do when"
void lose(writer_self self, const error& why) {
  auto& state = self->state;
  state.is_lost = true;
  ++gauges::value("journal_lost");
  log::error("journal.lost", {{"path", state.path}, {"reason", to_string(why)}});
  state.db->abandon();
  self->delayed_send(self, reopen_wait.min, reopen_atom::value);
}

/// Ends this actor once the file is whole again: its supervisor starts it, and all that trusts it,
/// from what is on the disk.
void reopen(writer_self self) {
  auto& state = self->state;
  auto again = journal_sqlite::open(state.path, sqlite::role::writer);
  auto whole = again ? (*again)->verify(state.db->durable_seq()) : fail(again.error());
  if (again) (*again)->abandon();
  if (whole) {
    log::info("journal.whole_again", {{"path", state.path}, {"tries", state.reopens + 1}});
    self->quit(to_caf({ec::journal_lost, "its disk had failed; it is read anew", {}}));
    return;
  }
  ++gauges::value("journal_reopen_failures");
  log::warn(
      "journal.reopen_failed",
      {{"path", state.path}, {"tries", state.reopens + 1}, {"reason", to_string(whole.error())}});
  self->delayed_send(self, backoff_wait(reopen_wait, std::min(state.reopens++, 20u), state.random),
                     reopen_atom::value);
}

void note_commit_time(steady_clock::duration took) {
  static auto &sum = gauges::value("journal_commit_us_sum"),
              &longest = gauges::value("journal_commit_us_max");
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(took).count();
  sum += us;
  longest = std::max<std::int64_t>(longest, us);
}

void retain(writer_self self) {
  auto& state = self->state;
  static auto &runs = gauges::value("journal_runs_deleted"),
              &bytes = gauges::value("journal_bytes"),
              &free_bytes = gauges::value("journal_free_bytes");
  bool is_more = false;
  if (!state.is_lost) {
    const auto done = state.db->retain(state.keep, wall_ms());
    if (done) {
      is_more = done->is_more;
      runs += static_cast<std::int64_t>(done->runs);
      state.gone.runs += done->runs;
      state.gone.pages += done->pages;
    } else {
      ++gauges::value("journal_retain_failures");
      log::warn("journal.retain_failed", {{"reason", to_string(done.error())}});
      if (done.error().code == ec::journal_lost) lose(self, done.error());
    }
    if (const auto size = state.db->size()) {
      bytes = size->first;
      free_bytes = size->second;
    }
  }
  // What waits in the mailbox comes between two steps.
  if (is_more) return self->send(self, retain_atom::value);
  if (state.gone.runs != 0 || state.gone.pages != 0)
    log::info("journal.retained", {{"runs_deleted", state.gone.runs},
                                   {"pages_given_back", state.gone.pages},
                                   {"bytes", bytes.load()}});
  state.gone = {};
  self->delayed_send(self, retain_every, retain_atom::value);
}

void settle(writer_state& state, std::uint64_t tag, result<committed> outcome) {
  const auto at = std::prev(state.open.upper_bound(tag));
  auto& r = at->second;
  r.outcomes[tag - at->first] = std::move(outcome);
  if (--r.missing != 0) return;
  std::visit(overload{[&](caf::typed_response_promise<written>& promise) {
                        promise.deliver(written{std::move(r.outcomes)});
                      },
                      [&](const std::shared_ptr<write_sink>& sink) {
                        sink->on_written(std::move(r.outcomes));
                      }},
             r.asker);
  state.open.erase(at);
}

void perform(writer_self self, group_effects todo) {
  auto& state = self->state;
  for (auto& one : todo) {
    std::visit(overload{// What is in the mailbox before this message shares the transaction.
                        [&](const flush_soon&) { self->send(self, flush_atom::value); },
                        [&](write_batches& e) {
                          static auto& commits = gauges::value("journal_commits");
                          const auto began = steady_clock::now();
                          auto done = commit(state, e.batches);
                          note_commit_time(steady_clock::now() - began);
                          if (!done) {
                            ++gauges::value("journal_commit_failures");
                            log::error("journal.commit_failed",
                                       {{"batches", e.batches.size()},
                                        {"reason", to_string(done.error())}});
                          }
                          if (!done && done.error().code == ec::journal_lost && !state.is_lost)
                            lose(self, done.error());
                          // To the dispatcher before anybody is told of them.
                          if (done) state.new_runs->add(take_new_runs(e.batches, *done));
                          ++commits;
                          perform(self, state.fsm.on_written(std::move(done)));
                        },
                        [&](tell_writer& e) { settle(state, e.tag, std::move(e.outcome)); }},
               one);
  }
  static auto& queued = gauges::value("journal_queued");
  queued = static_cast<std::int64_t>(state.fsm.waiting());
}

void take(writer_self self, std::vector<batch>& batches, decltype(open_request::asker) asker) {
  auto& state = self->state;
  const auto count = batches.size();
  auto tag = std::exchange(state.next_tag, state.next_tag + count);
  state.open[tag] = {std::move(asker), std::vector<result<committed>>(count), count};
  for (auto& b : batches) perform(self, state.fsm.on_write(tag++, std::move(b)));
}

void flush(writer_self self) {
  auto& state = self->state;
  perform(self, state.fsm.on_flush());
  if (!state.poll.begin(steady_clock::now())) return;
  while (self->mailbox().empty()) {
    if (!state.poll.goes_on(steady_clock::now())) {
      gauges::value("journal_polls_missed") = state.poll.missed();
      return;
    }
    ::sched_yield();  // To whom needs the CPU more.
  }
  state.poll.found();
}

journal_actor::behavior_type writer(writer_self self, const std::shared_ptr<journal_sqlite>& db,
                                    const std::string& path, const retention& keep,
                                    const std::shared_ptr<run_sink>& new_runs) {
  supervision::guard(self, "journal");
  self->state.db = db;
  self->state.path = path;
  self->state.keep = keep;
  self->state.new_runs = new_runs;
  self->delayed_send(self, retain_every, retain_atom::value);
  return {[self](write_request& w) -> caf::result<written> {
            if (w.batches.empty()) return written{};
            auto promise = self->make_response_promise<written>();
            take(self, w.batches, promise);
            return promise;
          },
          [self](direct_write& w) {
            if (!w.batches.empty()) take(self, w.batches, std::move(w.sink));
          },
          [self](recover_atom) -> caf::result<recovery> {
            // What an earlier dispatcher asked for is decided first, or this one would not know it.
            perform(self, self->state.fsm.on_flush());
            self->state.new_runs->begin_recovery();
            auto runs = self->state.db->leased_runs();
            if (!runs) return to_caf(runs.error());
            const auto token = self->state.db->highest_token();
            if (!token) return to_caf(token.error());
            const auto draining = self->state.db->flag(draining_flag);
            if (!draining) return to_caf(draining.error());
            return recovery{std::move(*runs), *token, *draining};
          },
          [self](const page_request& r) -> caf::result<page> {
            perform(self, self->state.fsm.on_flush());
            auto place = r.after;
            auto runs = self->state.db->queued_runs(place, page_runs);
            if (!runs) return to_caf(runs.error());
            const bool is_last = runs->size() < page_runs;
            return page{std::move(*runs), std::move(place), is_last};
          },
          [self](flush_atom) { flush(self); },
          [self](reopen_atom) { reopen(self); },
          [self](retain_atom) { retain(self); }};
}

struct reader_state {
  const char* name = "journal_reader";
  std::shared_ptr<journal_sqlite> db;
};
using reader_self = journal_reader::stateful_pointer<reader_state>;

constexpr std::size_t logs_bytes_max = 1u << 20;  // of one answer, well below a line

result<nlohmann::json> read(journal_sqlite& db, const read_request& r) {
  return std::visit(
      overload{[&](const domain::runs_query& q) { return db.runs(q); },
               [&](const show_query& q) { return db.show(q.run); },
               [&](const why_query& q) { return db.why(q.run); },
               [&](const domain::logs_query& q) { return db.logs(q, logs_bytes_max); },
               [&](const counts_query&) { return db.counts(); }},
      r.what);
}

journal_reader::behavior_type reader(reader_self self, const std::shared_ptr<journal_sqlite>& db) {
  supervision::guard(self, "journal_reader");
  self->state.db = db;
  return {[self](const read_request& r) -> caf::result<read_answer> {
            auto value = read(*self->state.db, r);
            if (!value) return to_caf(value.error());
            return read_answer{std::move(*value)};
          },
          [self](const find_request& r) -> caf::result<found_run> {
            auto row = self->state.db->find(r.run);
            if (!row) return to_caf(row.error());
            return found_run{std::move(*row)};
          }};
}

}  // namespace

result<caf::actor> spawn_journal(caf::actor_system& system, const std::string& path,
                                 const retention& keep, const std::shared_ptr<run_sink>& new_runs) {
  auto db = journal_sqlite::open(path, sqlite::role::writer);
  if (!db) return fail(db.error());
  if (keep.bytes != 0)
    if (auto bounded = (*db)->bound(keep.bytes); !bounded) return fail(bounded.error());
  return caf::actor_cast<caf::actor>(system.spawn<caf::detached>(
      writer, std::shared_ptr<journal_sqlite>{std::move(*db)}, path, keep, new_runs));
}

result<caf::actor> spawn_journal_reader(caf::actor_system& system, const std::string& path) {
  auto db = journal_sqlite::open(path, sqlite::role::reader);
  if (!db) return fail(db.error());
  return caf::actor_cast<caf::actor>(
      system.spawn<caf::detached>(reader, std::shared_ptr<journal_sqlite>{std::move(*db)}));
}

}  // namespace ntrace::journal
