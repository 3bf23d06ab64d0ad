#include "actors/journal/journal_sqlite.hpp"

#include <sqlite3.h>

#include <algorithm>

#include "actors/journal/schema.hpp"
#include "config/clock.hpp"
#include "config/ids.hpp"
#include "config/overload.hpp"
#include "config/random.hpp"

namespace ntrace::journal {
namespace {
constexpr int busy_ms = 5000;  // A reader's checkpoint lock is held for milliseconds.
}

/// One use of a prepared statement: bind in order, step, read columns; reset at the end.
class journal_sqlite::statement {
 public:
  statement(journal_sqlite& owner, const char* sql) : owner_{owner}, s_{owner.prepared(sql)} {}
  ~statement() {
    if (s_) sqlite3_reset(s_);
    if (s_) sqlite3_clear_bindings(s_);
  }
  statement(const statement&) = delete;
  statement& operator=(const statement&) = delete;

  statement& bind(const std::string& v) {
    sqlite3_bind_text(s_, ++at_, v.data(), static_cast<int>(v.size()), SQLITE_TRANSIENT);
    return *this;
  }
  statement& bind_blob(const std::string& v) {
    sqlite3_bind_blob64(s_, ++at_, v.data(), v.size(), SQLITE_TRANSIENT);
    return *this;
  }
  template <class Int>
    requires std::is_integral_v<Int>
  statement& bind(Int v) {
    sqlite3_bind_int64(s_, ++at_, static_cast<sqlite3_int64>(v));
    return *this;
  }
  /// True when there is a row; the error of anything but a row or the end.
  result<bool> step() {
    const int code = s_ ? sqlite3_step(s_) : SQLITE_ERROR;
    if (code == SQLITE_ROW) return true;
    if (code == SQLITE_DONE) return false;
    return fail(owner_.failure("use"));
  }
  std::string text(int i) const {
    const auto* p = reinterpret_cast<const char*>(sqlite3_column_blob(s_, i));
    return p ? std::string{p, static_cast<std::size_t>(sqlite3_column_bytes(s_, i))} : std::string{};
  }
  std::int64_t number(int i) const { return sqlite3_column_int64(s_, i); }
  std::uint64_t count(int i) const { return static_cast<std::uint64_t>(number(i)); }

 private:
  journal_sqlite& owner_;
  sqlite3_stmt* s_;
  int at_ = 0;
};

sqlite3_stmt* journal_sqlite::prepared(const char* sql) {
  for (const auto& [text, s] : statements_)
    if (text == sql) return s;
  sqlite3_stmt* s = nullptr;
  if (sqlite3_prepare_v3(db_, sql, -1, SQLITE_PREPARE_PERSISTENT, &s, nullptr) != SQLITE_OK) return nullptr;
  statements_.emplace_back(sql, s);
  return s;
}

error journal_sqlite::failure(const std::string& what) const {
  const int code = db_ ? sqlite3_extended_errcode(db_) : SQLITE_CANTOPEN;
  const std::string words = db_ ? sqlite3_errmsg(db_) : "out of memory";
  const auto text = "cannot " + what + " the journal " + path_ + ": " + words;
  switch (code & 0xff) {
    case SQLITE_FULL: return {ec::journal_full, text + "; make room on its disk, it goes on by itself", {}};
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return {ec::journal_corrupt, text + "; restore a backup, or move the file away to begin anew", {}};
    default: return {ec::journal_failed, text, {}};
  }
}

result<std::unique_ptr<journal_sqlite>> journal_sqlite::open(const std::string& path, role r) {
  std::unique_ptr<journal_sqlite> out{new journal_sqlite};
  out->path_ = path;
  const int flags = r == role::writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
  if (sqlite3_open_v2(path.c_str(), &out->db_, flags | SQLITE_OPEN_NOMUTEX, nullptr) != SQLITE_OK)
    return fail(out->failure("open"));
  sqlite3_busy_timeout(out->db_, busy_ms);
  if (r == role::writer) {
    if (sqlite3_exec(out->db_, "pragma journal_mode=wal; pragma synchronous=full; pragma foreign_keys=on", nullptr, nullptr, nullptr) != SQLITE_OK)
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
    return fail(ec::journal_schema, "the journal " + path_ + " has schema " + std::to_string(version) +
                                        ", this ntrace knows up to " + std::to_string(schema_version) + "; upgrade ntrace");
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
  const auto run = [&](const char* sql) { return sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) == SQLITE_OK; };
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
    // A duplicate or stale batch leaves nothing behind, and the others stand.
    if ((done->duplicate_of || done->is_stale) && !run("rollback to one")) return give_up(failure("write"));
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
    if (out.duplicate_of || out.is_stale) return out;
  }
  out.seq = static_cast<std::uint64_t>(sqlite3_last_insert_rowid(db_));
  return out;
}

namespace {
run_row read_run(const auto& s) {
  run_row r;
  r.id = s.text(0);
  r.owner = s.text(1);
  r.repo = s.text(2);
  r.sha = s.text(3);
  r.source = s.text(4);
  r.priority = s.number(5);
  r.state = dispatcher::run_state_from(s.text(6));
  r.attempts = s.count(7);
  r.token = s.count(8);
  r.created_ms = s.number(9);
  return r;
}
}  // namespace

#define NTRACE_RUN_COLUMNS "id, owner, repo, sha, source, priority, state, attempts, token, created_ms"

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
            statement s{*this, "insert into run(" NTRACE_RUN_COLUMNS ", key, payload, updated_ms) values(?,?,?,?,?,?,?,?,?,?,?,?,?)"};
            s.bind(o.run.id).bind(o.run.owner).bind(o.run.repo).bind(o.run.sha).bind(o.run.source).bind(o.run.priority);
            s.bind(std::string{to_string(o.run.state)}).bind(o.run.attempts).bind(o.run.token).bind(o.run.created_ms);
            return done(s.bind(o.key).bind(o.payload.dump()).bind(now_ms).step());
          },
          [&](const set_run& o) -> result<void> {
            statement s{*this, "update run set state=?, attempts=?, token=?, verdict=?, reason=?, updated_ms=? where id=?"};
            s.bind(std::string{to_string(o.state)}).bind(o.attempts).bind(o.token).bind(o.verdict).bind(o.reason);
            return done(s.bind(now_ms).bind(o.run).step());
          },
          [&](const put_attempt& o) -> result<void> {
            statement s{*this, "insert into attempt(run, number, token, runner, offered_ms) values(?,?,?,?,?)"};
            return done(s.bind(o.run).bind(o.number).bind(o.token).bind(o.runner).bind(now_ms).step());
          },
          [&](const end_attempt& o) -> result<void> {
            statement s{*this, "update attempt set ended_ms=?, verdict=?, reason=?, receipt=? where token=?"};
            return done(s.bind(now_ms).bind(o.verdict).bind(o.reason).bind(o.receipt.is_null() ? "" : o.receipt.dump()).bind(o.token).step());
          },
          [&](const append_chunk& o) -> result<void> {
            statement s{*this,
                        "insert into chunk(run, attempt, token, seq, stream, at_ms, data) select ?,?,?,?,?,?,? "
                        "where exists(select 1 from run where id=? and token=? and state in ('leased','running'))"};
            s.bind(o.run).bind(o.attempt).bind(o.token).bind(o.seq).bind(o.stream).bind(now_ms).bind_blob(o.data);
            auto stepped = s.bind(o.run).bind(o.token).step();
            if (stepped && sqlite3_changes(db_) == 0) out.is_stale = true;
            return done(std::move(stepped));
          },
          [&](const event& o) -> result<void> {
            statement s{*this, "insert into event(run, attempt, token, at_ms, actor, what, detail) values(?,?,?,?,?,?,?)"};
            s.bind(o.run).bind(o.attempt).bind(o.token).bind(now_ms).bind(o.actor).bind(o.what);
            return done(s.bind(o.detail.is_null() ? "" : o.detail.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)).step());
          }},
      op);
}

result<std::vector<run_row>> journal_sqlite::open_runs() {
  std::vector<run_row> out;
  statement s{*this, "select " NTRACE_RUN_COLUMNS ", (select coalesce(max(seq),0) from chunk where chunk.token=run.token) "
                     "from run where state in ('queued','leased','running') order by created_ms, id"};
  for (;;) {
    auto row = s.step();
    if (!row) return fail(row.error());
    if (!*row) return out;
    out.push_back(read_run(s));
    out.back().last_seq = s.count(10);
  }
}

result<std::uint64_t> journal_sqlite::highest_token() {
  statement s{*this, "select coalesce(max(token),0) from attempt"};
  auto row = s.step();
  if (!row) return fail(row.error());
  return s.count(0);
}

result<nlohmann::json> journal_sqlite::runs(const nlohmann::json& filter) {
  statement s{*this, "select " NTRACE_RUN_COLUMNS ", verdict, reason, updated_ms from run where (?='' or owner||'/'||repo=?) "
                     "and (?='' or state=?) and created_ms>=? order by created_ms desc, id desc limit ?"};
  const auto repo = filter.value("repo", "");
  const auto state = filter.value("state", "");
  s.bind(repo).bind(repo).bind(state).bind(state).bind(filter.value("since_ms", std::int64_t{0}));
  s.bind(std::clamp<std::int64_t>(filter.value("limit", std::int64_t{20}), 1, 1000));
  auto out = nlohmann::json::array();
  for (;;) {
    auto row = s.step();
    if (!row) return fail(row.error());
    if (!*row) return out;
    const auto r = read_run(s);
    out.push_back({{"run", r.id}, {"owner", r.owner}, {"repo", r.repo}, {"sha", r.sha}, {"source", r.source},
                   {"priority", r.priority}, {"state", to_string(r.state)}, {"attempts", r.attempts},
                   {"created_ms", r.created_ms}, {"verdict", s.text(10)}, {"reason", s.text(11)}, {"updated_ms", s.number(12)}});
  }
}

result<nlohmann::json> journal_sqlite::show(const std::string& run) {
  if (auto checked = check_run_id(run); !checked) return fail(checked.error());
  nlohmann::json out;
  {
    statement s{*this, "select " NTRACE_RUN_COLUMNS ", verdict, reason, updated_ms, key from run where id=?"};
    auto row = s.bind(run).step();
    if (!row) return fail(row.error());
    if (!*row) return fail(ec::not_found, "no run " + run + "; `ntrace runs` lists them");
    const auto r = read_run(s);
    out = {{"run", r.id}, {"owner", r.owner}, {"repo", r.repo}, {"sha", r.sha}, {"source", r.source}, {"priority", r.priority},
           {"state", to_string(r.state)}, {"created_ms", r.created_ms}, {"verdict", s.text(10)}, {"reason", s.text(11)},
           {"updated_ms", s.number(12)}, {"key", s.text(13)}, {"attempts", nlohmann::json::array()}};
  }
  statement s{*this, "select number, token, runner, offered_ms, ended_ms, verdict, reason, receipt from attempt where run=? order by token"};
  s.bind(run);
  for (;;) {
    auto row = s.step();
    if (!row) return fail(row.error());
    if (!*row) break;
    nlohmann::json a{{"attempt", s.count(0)}, {"token", s.count(1)}, {"runner", s.text(2)}, {"offered_ms", s.number(3)},
                     {"ended_ms", s.number(4)}, {"verdict", s.text(5)}, {"reason", s.text(6)}};
    if (auto receipt = nlohmann::json::parse(s.text(7), nullptr, false); receipt.is_object()) a["receipt"] = std::move(receipt);
    out["attempts"].push_back(std::move(a));
  }
  return out;
}

result<nlohmann::json> journal_sqlite::logs(const std::string& run, std::uint64_t after, const std::string& stream, std::size_t bytes_max) {
  auto shown = show(run);
  if (!shown) return fail(shown.error());
  statement s{*this, "select id, attempt, seq, stream, at_ms, data from chunk where run=? and id>? and (?='' or stream=?) order by id limit 1000"};
  s.bind(run).bind(after).bind(stream).bind(stream);
  nlohmann::json out{{"state", (*shown)["state"]}, {"verdict", (*shown)["verdict"]}, {"reason", (*shown)["reason"]}, {"chunks", nlohmann::json::array()}, {"next", after}, {"more", false}};
  std::size_t bytes = 0;
  for (;;) {
    auto row = s.step();
    if (!row) return fail(row.error());
    if (!*row) break;
    if (bytes >= bytes_max) {
      out["more"] = true;
      break;
    }
    auto data = s.text(5);
    bytes += data.size();
    out["next"] = s.count(0);
    out["chunks"].push_back({{"attempt", s.count(1)}, {"seq", s.count(2)}, {"stream", s.text(3)}, {"at_ms", s.number(4)}, {"data", std::move(data)}});
  }
  if (out["chunks"].size() >= 1000) out["more"] = true;
  return out;
}

result<nlohmann::json> journal_sqlite::why(const std::string& run) {
  auto out = show(run);
  if (!out) return out;
  (*out)["events"] = nlohmann::json::array();
  statement s{*this, "select at_ms, attempt, token, actor, what, detail from event where run=? order by id"};
  s.bind(run);
  for (;;) {
    auto row = s.step();
    if (!row) return fail(row.error());
    if (!*row) return out;
    nlohmann::json e{{"at_ms", s.number(0)}, {"attempt", s.count(1)}, {"token", s.count(2)}, {"actor", s.text(3)}, {"event", s.text(4)}};
    if (auto detail = nlohmann::json::parse(s.text(5), nullptr, false); !detail.is_discarded()) e["detail"] = std::move(detail);
    (*out)["events"].push_back(std::move(e));
  }
}

result<nlohmann::json> journal_sqlite::counts() {
  statement s{*this, "select state, count(*) from run group by state"};
  nlohmann::json out = nlohmann::json::object();
  for (;;) {
    auto row = s.step();
    if (!row) return fail(row.error());
    if (!*row) return out;
    out[s.text(0)] = s.count(1);
  }
}

result<void> check_run_id(const std::string& run) {
  if (!is_ulid(run)) return fail(ec::bad_argument, "\"" + run + "\" is not a run's id, which has 26 characters such as 01J9ZQ…");
  return {};
}

}  // namespace ntrace::journal
