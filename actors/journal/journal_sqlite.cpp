#include "actors/journal/journal_sqlite.hpp"

#include <algorithm>

#include "actors/journal/journal_kind.hpp"
#include "actors/journal/push_identity.hpp"
#include "actors/journal/run_columns.hpp"
#include "actors/journal/schema.hpp"
#include "config/clock.hpp"
#include "config/crash_point.hpp"
#include "config/overload.hpp"

namespace ntrace::journal {

result<std::unique_ptr<journal_sqlite>> journal_sqlite::open(const std::string& path,
                                                             sqlite::role r) {
  auto db = sqlite::connection::open(journal_kind(), path, r, schema_steps);
  if (!db) return fail(db.error());
  std::unique_ptr<journal_sqlite> out{new journal_sqlite{std::move(*db)}};
  const auto schema = out->pragma("pragma user_version");
  if (!schema) return fail(schema.error());
  out->schema_ = *schema;
  if (r == sqlite::role::reader) return out;
  auto last = out->last_seq();
  if (!last) return fail(last.error());
  out->last_seq_ = out->durable_seq_ = *last;
  return out;
}

namespace {

/// May be found void after something before it was written. What comes first has nothing to undo.
bool may_be_undone(const batch& b) {
  const auto is_certain = [](const operation& op) {
    return std::holds_alternative<event>(op) || std::holds_alternative<put_attempt>(op) ||
           std::holds_alternative<end_attempt>(op) || std::holds_alternative<set_outages>(op) ||
           std::holds_alternative<set_flag>(op);
  };
  return !b.empty() && !std::all_of(b.begin() + 1, b.end(), is_certain);
}

}  // namespace

result<std::vector<committed>> journal_sqlite::commit(const std::vector<batch>& batches) {
  const auto give_up = [&](error e) {
    db_->undo();
    // Also what somebody else wrote: a number that is taken would be refused again and again.
    last_seq_ = std::max(durable_seq_, last_seq().value_or(0));
    return fail(full(std::move(e)));
  };
  const auto say = [&](const char* sql) { return statement{*db_, sql}.done(); };
  if (auto begun = say("begin immediate"); !begun) return fail(begun.error());
  std::vector<committed> out;
  out.reserve(batches.size());
  const auto now = wall_ms();
  for (const auto& b : batches) {
    const bool has_savepoint = may_be_undone(b);
    if (auto set = has_savepoint ? say("savepoint one") : result<void>{}; !set)
      return give_up(set.error());
    const auto before = last_seq_;
    auto done = apply(b, now);
    if (!done) return give_up(done.error());
    // A duplicate, stale or gapped batch leaves nothing behind, and the others stand.
    if (done->is_void()) last_seq_ = before;
    if (has_savepoint) {
      if (auto undone = done->is_void() ? say("rollback to one") : result<void>{}; !undone)
        return give_up(undone.error());
      if (auto released = say("release one"); !released) return give_up(released.error());
    }
    out.push_back(std::move(*done));
  }
  crash_point("journal.in_transaction");
  if (auto done = say("commit"); !done) return give_up(done.error());
  durable_seq_ = last_seq_;
  return out;
}

result<std::int64_t> journal_sqlite::last_seq() {
  // A run that is queued no more has an event behind its push.
  return pragma(
      "select max((select coalesce(max(seq),0) from sqlite_sequence where name='event'), "
      "(select coalesce(max(journal_seq),0) from run where state='queued'))");
}

result<void> journal_sqlite::verify(std::int64_t durable_seq) {
  statement whole{*db_, "pragma quick_check(1)"};
  auto row = whole.step();
  if (!row) return fail(row.error());
  if (!*row || whole.text(0) != "ok")
    return fail(ec::journal_corrupt,
                "the journal " + db_->path() + " is damaged: " + whole.text(0));
  const auto last = last_seq();
  if (!last) return fail(last.error());
  if (*last < durable_seq)
    return fail(ec::journal_corrupt,
                "the disk lost what it had confirmed: the journal " + db_->path() +
                    " ends with number " + std::to_string(*last) + ", acknowledged was " +
                    std::to_string(durable_seq) + "; put a backup in place or mend the disk");
  return {};
}

result<committed> journal_sqlite::apply(const batch& b, std::int64_t now_ms) {
  committed out;
  for (const auto& op : b) {
    if (auto written = write(op, now_ms, out); !written) return fail(written.error());
    if (out.is_void()) return out;
  }
  out.seq = static_cast<std::uint64_t>(last_seq_);
  return out;
}

/// The push that has the key of `o` already.
result<void> journal_sqlite::find_earlier(const insert_run& o, committed& out) {
  statement s{
      *db_, "select " NTRACE_RUN_COLUMNS ", has_source, asked_deadline_ms from run where key = ?"};
  s.bind(o.key);
  auto row = s.step();
  if (!row) return fail(row.error());
  if (!*row) return fail(ec::defect, "a push was not written, and no other has its key");
  keyed_push then{read_run(s), {}, {}};
  if (!s.is_null(11)) then.has_source = s.number(11) != 0;
  if (!s.is_null(12)) then.deadline_ms = s.number(12);
  out.differences = push_differences(then, o);
  out.duplicate_of = std::move(then.run);
  return {};
}

/// The highest chunk of `token`; nothing when it is not the run's live one.
result<std::optional<std::uint64_t>> journal_sqlite::stored_chunks(const std::string& run,
                                                                   std::uint64_t token) {
  statement s{*db_,
              "select exists(select 1 from run where id=? and token=? and state in "
              "('leased','running')), (select coalesce(max(seq),0) from chunk where token=?)"};
  auto row = s.bind(run).bind(token).bind(token).step();
  if (!row) return fail(row.error());
  return s.count(0) == 0 ? std::nullopt : std::optional{s.count(1)};
}

result<void> journal_sqlite::insert_chunk(const std::string& run, std::uint64_t attempt,
                                          std::uint64_t token, std::uint64_t seq,
                                          domain::stream stream, const std::string& data,
                                          std::int64_t now_ms) {
  statement s{*db_,
              "insert into chunk(run, attempt, token, seq, stream, at_ms, data) "
              "values(?,?,?,?,?,?,?)"};
  s.bind(run)
      .bind(attempt)
      .bind(token)
      .bind(seq)
      .bind(to_string(stream))
      .bind(now_ms)
      .bind_blob(data);
  return s.done();
}

result<void> journal_sqlite::write_doc(const append_doc& o, std::int64_t now_ms, committed& out) {
  statement known{*db_, "select 1 from doc where id=?"};
  auto row = known.bind(o.doc).step();
  if (!row) return fail(row.error());
  out.is_known = *row;
  if (out.is_known) return {};
  auto stored = stored_chunks(o.run, o.token);
  if (!stored) return fail(stored.error());
  out.is_stale = !*stored;
  if (out.is_stale) return {};
  out.last_seq = **stored;
  for (const auto& piece : o.pieces)
    if (auto put = insert_chunk(o.run, o.attempt, o.token, ++out.last_seq,
                                o.stream.value_or(domain::stream::out), piece, now_ms);
        !put)
      return put;
  return statement{*db_, "insert into doc(id, token) values(?,?)"}.bind(o.doc).bind(o.token).done();
}

result<void> journal_sqlite::write_outages(const set_outages& o, std::int64_t now_ms,
                                           committed& out) {
  out.at_ms = now_ms;
  if (!o.record) return statement{*db_, "delete from outage where run=?"}.bind(o.run).done();
  const auto& r = *o.record;
  statement s{*db_,
              "insert or replace into outage(run, total, tries, host, cause, message, waited_ms, "
              "wait_ms, since_ms, at_ms) values(?,?,?,?,?,?,?,?,?,?)"};
  s.bind(o.run).bind(r.total).bind(r.tries).bind(r.last.host).bind(to_string(r.last.cause));
  s.bind(r.last.message).bind(r.waited.count()).bind(r.wait.count());
  // Of the first try its own; this is of the last.
  return s.bind(r.since_ms == 0 ? now_ms : r.since_ms).bind(now_ms).done();
}

result<void> journal_sqlite::write(const operation& op, std::int64_t now_ms, committed& out) {
  return std::visit(
      overload{
          [&](const insert_run& o) -> result<void> {
            statement s{*db_, "insert into run(" NTRACE_RUN_COLUMNS
                              ", payload, updated_ms, journal_seq, key, has_source, "
                              "asked_deadline_ms) "
                              "values(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) "
                              "on conflict(key) where key is not null do nothing"};
            s.bind_text(o.run.id)
                .bind_text(o.run.owner)
                .bind_text(o.run.repo)
                .bind_text(o.run.sha)
                .bind_text(o.run.source)
                .bind(o.run.priority);
            s.bind_text(to_string(o.run.state))
                .bind(o.run.attempts)
                .bind(o.run.token)
                .bind(o.run.created_ms)
                .bind(o.run.deadline_ms);
            s.bind_text(o.payload).bind(now_ms).bind(++last_seq_);
            // Else they stay null.
            if (!o.key.empty()) s.bind_text(o.key).bind(o.has_source).bind(o.run.deadline_ms);
            auto done = s.done();
            if (!done || sqlite3_changes(db_->handle()) != 0) return done;
            return find_earlier(o, out);
          },
          [&](const set_run& o) -> result<void> {
            statement s{
                *db_,
                "update run set state=?, attempts=?, token=?, verdict=?, reason=?, "
                "deadline_ms=case when ? then 0 else deadline_ms end, updated_ms=? where id=?"};
            s.bind(to_string(o.state))
                .bind(o.attempts)
                .bind(o.token)
                .bind(word_of(o.verdict))
                .bind(o.reason)
                .bind(o.drops_deadline);
            auto done = s.bind(now_ms).bind(o.run).done();
            out.is_stale = done && sqlite3_changes(db_->handle()) == 0;
            return done;
          },
          [&](const put_attempt& o) -> result<void> {
            statement s{
                *db_,
                "insert into attempt(run, number, token, runner, offered_ms) values(?,?,?,?,?)"};
            if (auto put =
                    s.bind(o.run).bind(o.number).bind(o.token).bind(o.runner).bind(now_ms).done();
                !put || !o.wants_payload)
              return put;
            statement payload{*db_, "select payload from run where id=?"};
            auto row = payload.bind(o.run).step();
            if (!row) return fail(row.error());
            if (*row) out.payload = payload.text(0);
            return {};
          },
          [&](const end_attempt& o) -> result<void> {
            statement s{
                *db_,
                "update attempt set ended_ms=?, verdict=?, reason=?, receipt=?, is_expired=? "
                "where token=?"};
            return s.bind(now_ms)
                .bind(to_string(o.verdict))
                .bind(o.reason)
                .bind(o.receipt ? (*o.receipt).dump() : "")
                .bind(o.is_expired)
                .bind(o.token)
                .done();
          },
          [&](const set_outages& o) { return write_outages(o, now_ms, out); },
          [&](const revive& o) -> result<void> {
            statement now{*db_,
                          "select run.attempts, (select coalesce(max(seq),0) from chunk where "
                          "token=attempt.token) from run join attempt on attempt.run=run.id where "
                          "run.id=? and attempt.token=? and run.state='queued' and is_expired "
                          "and attempt.token=(select max(token) from attempt as last where "
                          "last.run=run.id and last.number=run.attempts)"};
            auto row = now.bind(o.run).bind(o.token).step();
            if (!row) return fail(row.error());
            out.is_stale = !*row;
            if (out.is_stale) return {};
            out.last_seq = now.count(1);
            auto done = statement{*db_,
                                  "update attempt set ended_ms=0, verdict='', reason='', "
                                  "is_expired=0 where token=?"}
                            .bind(o.token)
                            .done();
            if (!done) return done;
            return statement{*db_,
                             "update run set state='leased', token=?, verdict='', reason='', "
                             "updated_ms=? where id=?"}
                .bind(o.token)
                .bind(now_ms)
                .bind(o.run)
                .done();
          },
          [&](const bind_run_id& o) -> result<void> {
            statement known{*db_, "select 1 from attempt where run_id=? and token<>?"};
            auto row = known.bind(o.run_id).bind(o.token).step();
            if (!row) return fail(row.error());
            out.is_stale = *row;
            if (out.is_stale) return {};
            return statement{*db_, "update attempt set run_id=? where token=?"}
                .bind(o.run_id)
                .bind(o.token)
                .done();
          },
          [&](const append_doc& o) { return write_doc(o, now_ms, out); },
          [&](const append_chunk& o) -> result<void> {
            auto stored = stored_chunks(o.run, o.token);
            if (!stored) return fail(stored.error());
            out.is_stale = !*stored;
            out.is_gap = *stored && **stored + 1 != o.seq;
            if (out.is_stale || out.is_gap) return {};
            return insert_chunk(o.run, o.attempt, o.token, o.seq, o.stream, o.data, now_ms);
          },
          [&](const set_flag& o) -> result<void> {
            return statement{*db_, "insert or replace into flag(name, value) values(?,?)"}
                .bind(o.name)
                .bind(o.value)
                .done();
          },
          [&](const event& o) -> result<void> {
            statement s{*db_,
                        "insert into event(id, run, attempt, token, at_ms, actor, what, detail) "
                        "values(?,?,?,?,?,?,?,?)"};
            s.bind(++last_seq_)
                .bind(o.run)
                .bind(o.attempt)
                .bind(o.token)
                .bind(now_ms)
                .bind(o.actor)
                .bind(o.what);
            s.bind(o.detail.is_null()
                       ? ""
                       : o.detail.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
            return s.done();
          }},
      op);
}

}  // namespace ntrace::journal
