#include "actors/journal/journal_sqlite.hpp"

#include "actors/journal/journal_statement.hpp"
#include "actors/journal/schema.hpp"
#include "actors/journal/sqlite_failure.hpp"
#include "config/clock.hpp"
#include "config/overload.hpp"

namespace ntrace::journal {

sqlite3_stmt* journal_sqlite::prepared(const char* sql) {
  for (const auto& [text, s] : statements_)
    if (text == sql) return s;
  sqlite3_stmt* s = nullptr;
  if (sqlite3_prepare_v3(db_, sql, -1, SQLITE_PREPARE_PERSISTENT, &s, nullptr) != SQLITE_OK)
    return nullptr;
  statements_.emplace_back(sql, s);
  return s;
}

error journal_sqlite::failure(const std::string& what) const {
  return sqlite_failure(db_, what, path_);
}

result<std::unique_ptr<journal_sqlite>> journal_sqlite::open(const std::string& path, role r) {
  std::unique_ptr<journal_sqlite> out{new journal_sqlite};
  out->path_ = path;
  const int flags =
      r == role::writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
  if (sqlite3_open_v2(path.c_str(), &out->db_, flags | SQLITE_OPEN_NOMUTEX, nullptr) != SQLITE_OK)
    return fail(out->failure("open"));
  sqlite3_busy_timeout(out->db_, busy_ms);
  if (r == role::writer) {
    if (sqlite3_exec(out->db_,
                     "pragma journal_mode=wal; pragma synchronous=full; pragma foreign_keys=on",
                     nullptr, nullptr, nullptr) != SQLITE_OK)
      return fail(out->failure("open"));
    if (auto migrated = out->migrate(); !migrated) return fail(migrated.error());
  }
  return out;
}

journal_sqlite::~journal_sqlite() {
  for (const auto& [text, s] : statements_) sqlite3_finalize(s);
  sqlite3_close(db_);
}

result<void> journal_sqlite::migrate() {
  int version = 0;
  {
    statement s{*this, "pragma user_version"};
    auto row = s.step();
    if (!row) return fail(row.error());
    version = static_cast<int>(s.number(0));
  }
  if (version > schema_version)
    return fail(ec::journal_schema, "the journal " + path_ + " has schema " +
                                        std::to_string(version) + ", this ntrace knows up to " +
                                        std::to_string(schema_version) + "; upgrade ntrace");
  for (int v = version; v < schema_version; ++v) {
    const auto sql = "begin immediate;" + std::string{schema_steps[static_cast<std::size_t>(v)]} +
                     "pragma user_version=" + std::to_string(v + 1) + ";commit;";
    if (sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) {
      auto e = failure("migrate");
      sqlite3_exec(db_, "rollback", nullptr, nullptr, nullptr);
      return fail(e);
    }
  }
  return {};
}

result<std::vector<committed>> journal_sqlite::commit(const std::vector<batch>& batches) {
  const auto run = [&](const char* sql) {
    return sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) == SQLITE_OK;
  };
  const auto give_up = [&](error e) {
    run("rollback");  // Fails when the transaction is gone already: then there is nothing to undo.
    return fail(std::move(e));
  };
  if (!run("begin immediate")) return fail(failure("write"));
  std::vector<committed> out;
  const auto now = wall_ms();
  for (const auto& b : batches) {
    if (!run("savepoint one")) return give_up(failure("write"));
    auto done = apply(b, now);
    if (!done) return give_up(done.error());
    // A duplicate, stale or gapped batch leaves nothing behind, and the others stand.
    if ((done->duplicate_of || done->is_stale || done->is_gap) && !run("rollback to one"))
      return give_up(failure("write"));
    if (!run("release one")) return give_up(failure("write"));
    out.push_back(std::move(*done));
  }
  if (!run("commit")) return give_up(failure("write"));
  return out;
}

result<committed> journal_sqlite::apply(const batch& b, std::int64_t now_ms) {
  committed out;
  for (const auto& op : b) {
    if (auto written = write(op, now_ms, out); !written) return fail(written.error());
    if (out.duplicate_of || out.is_stale || out.is_gap) return out;
  }
  out.seq = static_cast<std::uint64_t>(sqlite3_last_insert_rowid(db_));
  return out;
}

result<std::optional<run_row>> journal_sqlite::find_by_key(const std::string& key) {
  statement s{*this, "select " NTRACE_RUN_COLUMNS " from run where key = ?"};
  s.bind(key);
  auto row = s.step();
  if (!row) return fail(row.error());
  return *row ? std::optional{read_run(s)} : std::nullopt;
}

result<void> journal_sqlite::write(const operation& op, std::int64_t now_ms, committed& out) {
  const auto done = [](result<bool> stepped) -> result<void> {
    if (!stepped) return fail(stepped.error());
    return {};
  };
  return std::visit(
      overload{
          [&](const insert_run& o) -> result<void> {
            auto known = find_by_key(o.key);
            if (!known) return fail(known.error());
            if (*known) {
              out.duplicate_of = std::move(*known);
              return {};
            }
            statement s{*this, "insert into run(" NTRACE_RUN_COLUMNS
                               ", key, payload, updated_ms) values(?,?,?,?,?,?,?,?,?,?,?,?,?)"};
            s.bind(o.run.id)
                .bind(o.run.owner)
                .bind(o.run.repo)
                .bind(o.run.sha)
                .bind(o.run.source)
                .bind(o.run.priority);
            s.bind(std::string{to_string(o.run.state)})
                .bind(o.run.attempts)
                .bind(o.run.token)
                .bind(o.run.created_ms);
            return done(s.bind(o.key).bind(o.payload.dump()).bind(now_ms).step());
          },
          [&](const set_run& o) -> result<void> {
            statement s{*this,
                        "update run set state=?, attempts=?, token=?, verdict=?, reason=?, "
                        "updated_ms=? where id=?"};
            s.bind(std::string{to_string(o.state)})
                .bind(o.attempts)
                .bind(o.token)
                .bind(o.verdict)
                .bind(o.reason);
            return done(s.bind(now_ms).bind(o.run).step());
          },
          [&](const put_attempt& o) -> result<void> {
            statement s{
                *this,
                "insert into attempt(run, number, token, runner, offered_ms) values(?,?,?,?,?)"};
            return done(
                s.bind(o.run).bind(o.number).bind(o.token).bind(o.runner).bind(now_ms).step());
          },
          [&](const end_attempt& o) -> result<void> {
            statement s{
                *this,
                "update attempt set ended_ms=?, verdict=?, reason=?, receipt=? where token=?"};
            return done(s.bind(now_ms)
                            .bind(o.verdict)
                            .bind(o.reason)
                            .bind(o.receipt.is_null() ? "" : o.receipt.dump())
                            .bind(o.token)
                            .step());
          },
          [&](const append_chunk& o) -> result<void> {
            statement now{*this,
                          "select exists(select 1 from run where id=? and token=? and state in "
                          "('leased','running')), "
                          "(select coalesce(max(seq),0) from chunk where token=?)"};
            auto row = now.bind(o.run).bind(o.token).bind(o.token).step();
            if (!row) return fail(row.error());
            out.is_stale = now.count(0) == 0;
            out.is_gap = !out.is_stale && now.count(1) + 1 != o.seq;
            if (out.is_stale || out.is_gap) return {};
            statement s{*this,
                        "insert into chunk(run, attempt, token, seq, stream, at_ms, data) "
                        "values(?,?,?,?,?,?,?)"};
            s.bind(o.run)
                .bind(o.attempt)
                .bind(o.token)
                .bind(o.seq)
                .bind(o.stream)
                .bind(now_ms)
                .bind_blob(o.data);
            return done(s.step());
          },
          [&](const event& o) -> result<void> {
            statement s{*this,
                        "insert into event(run, attempt, token, at_ms, actor, what, detail) "
                        "values(?,?,?,?,?,?,?)"};
            s.bind(o.run).bind(o.attempt).bind(o.token).bind(now_ms).bind(o.actor).bind(o.what);
            return done(s.bind(o.detail.is_null()
                                   ? ""
                                   : o.detail.dump(-1, ' ', false,
                                                   nlohmann::json::error_handler_t::replace))
                            .step());
          }},
      op);
}

}  // namespace ntrace::journal
