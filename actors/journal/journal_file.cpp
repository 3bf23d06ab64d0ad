#include "actors/journal/journal_file.hpp"

#include <sqlite3.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "actors/journal/journal_sqlite.hpp"
#include "config/file.hpp"

namespace ntrace::journal {
namespace {

constexpr int busy_ms = 5000;
constexpr int pages_per_step = 256;  // 1 MiB; between two steps the writer goes on
constexpr std::size_t findings_max = 100;

struct closer {
  void operator()(sqlite3* db) const { sqlite3_close(db); }
  void operator()(sqlite3_stmt* s) const { sqlite3_finalize(s); }
};
using database = std::unique_ptr<sqlite3, closer>;
using query = std::unique_ptr<sqlite3_stmt, closer>;

error failure(sqlite3* db, const std::string& what, const std::string& path) {
  const int code = db ? sqlite3_errcode(db) : SQLITE_NOMEM;
  const auto text =
      "cannot " + what + " the journal " + path + ": " + (db ? sqlite3_errmsg(db) : "no memory");
  if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
    return {ec::journal_corrupt,
            text + "; `ntrace journal salvage " + path + " NEW` saves what is whole",
            {}};
  if (code == SQLITE_FULL) return {ec::journal_full, text, {}};
  return {ec::journal_failed, text, {}};
}

result<database> open(const std::string& path, int flags) {
  sqlite3* raw = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &raw, flags, nullptr);
  database db{raw};
  if (code != SQLITE_OK) return fail(failure(raw, "open", path));
  sqlite3_busy_timeout(raw, busy_ms);
  return db;
}

result<database> open_existing(const std::string& path) {
  if (!std::filesystem::exists(path))
    return fail(ec::not_found,
                "there is no journal at " + path + "; name its file, or its folder with --data");
  return open(path, SQLITE_OPEN_READWRITE);  // A reader of a WAL may have to make its index.
}

result<void> must_be_new(const std::string& to) {
  if (std::filesystem::exists(to))
    return fail(ec::bad_argument, to + " exists already; name a new file");
  return {};
}

query prepare(sqlite3* db, const std::string& sql) {
  sqlite3_stmt* s = nullptr;
  sqlite3_prepare_v2(db, sql.c_str(), -1, &s, nullptr);
  return query{s};
}

std::string text_of(sqlite3_stmt* s, int column) {
  const auto* p = reinterpret_cast<const char*>(sqlite3_column_text(s, column));
  return p ? p : "";
}

/// Rules of the journal beyond SQLite's own, each as a query whose rows are sentences.
constexpr const char* rules[] = {
    "select 'run ' || id || ' is ' || state || ' with token ' || token || ', which no attempt has' "
    "from run where state in ('leased','running') and token not in (select token from attempt)",
    "select 'run ' || run || ': its chunks of token ' || token || ' have gaps' from chunk "
    "group by token having max(seq) <> count(*) or min(seq) <> 1",
    "select 'run ' || id || ' is ' || state || ' without a verdict' from run "
    "where state in ('done','failed') and verdict = ''",
    "select 'run ' || id || ' is queued and has the verdict ' || verdict from run "
    "where state = 'queued' and verdict <> ''",
    "select 'token ' || token || ' of run ' || run || ' is above a later one' from attempt a where "
    "exists(select 1 from attempt b where b.run = a.run and b.offered_ms > a.offered_ms and "
    "b.token < a.token)",
    "select 'run ' || id || ' is ' || state || ' and nothing says how it came to be' from run "
    "where id not in (select run from event)"};

/// Adds the first column of each row; false when the query broke off.
bool collect(sqlite3* db, const std::string& sql, std::vector<std::string>& out) {
  const auto s = prepare(db, sql);
  if (!s) return false;
  int code = SQLITE_ROW;
  while (out.size() < findings_max && (code = sqlite3_step(s.get())) == SQLITE_ROW)
    if (auto line = text_of(s.get(), 0); line != "ok") out.push_back(std::move(line));
  return code == SQLITE_ROW || code == SQLITE_DONE;
}

/// Reads the rows of a table with a rowid, stepping over places that cannot be read: from behind
/// the last good row it doubles its leap until a row comes, then halves it to lose as few as it
/// can.
class salvager {
public:
  salvager(sqlite3* from, sqlite3* to, salvaged& out) : from_{from}, to_{to}, out_{out} {}

  void copy_numbered(const std::string& table, const std::string& columns) {
    std::int64_t last = 0;
    const auto sql =
        "select rowid, " + columns + " from " + table + " where rowid > ? order by rowid";
    for (;;) {
      const auto s = prepare(from_, sql);
      if (!s) return;
      sqlite3_bind_int64(s.get(), 1, last);
      int code = SQLITE_ROW;
      while ((code = sqlite3_step(s.get())) == SQLITE_ROW) {
        last = sqlite3_column_int64(s.get(), 0);
        insert(table, columns, s.get(), 1);
      }
      if (code == SQLITE_DONE) return;
      ++out_.unreadable;
      const auto next = leap(sql, last);
      if (!next) return;
      last = *next;
    }
  }

  /// Runs have no number: from both ends, then those that other tables name, one by one.
  void copy_runs(const std::string& columns) {
    std::set<std::string> seen;
    for (const auto* order : {"asc", "desc"}) {
      const auto s = prepare(from_, "select " + columns + " from run order by id " + order);
      int code = SQLITE_ERROR;
      while (s && (code = sqlite3_step(s.get())) == SQLITE_ROW && take(columns, s.get(), seen)) {
      }
      if (code == SQLITE_DONE) return;
    }
    ++out_.unreadable;
    for (const auto* table : {"event", "attempt", "chunk"}) {
      const auto names = prepare(to_, std::string{"select distinct run from "} + table);
      while (names && sqlite3_step(names.get()) == SQLITE_ROW) {
        const auto id = text_of(names.get(), 0);
        if (seen.count(id) != 0) continue;
        const auto s = prepare(from_, "select " + columns + " from run where id = ?");
        sqlite3_bind_text(s.get(), 1, id.data(), static_cast<int>(id.size()), SQLITE_TRANSIENT);
        const bool is_there =
            s && sqlite3_step(s.get()) == SQLITE_ROW && take(columns, s.get(), seen);
        if (!is_there && lost_.insert(id).second) out_.lost_runs.push_back(id);
      }
    }
  }

private:
  bool take(const std::string& columns, sqlite3_stmt* s, std::set<std::string>& seen) {
    const auto id = text_of(s, 0);
    if (!seen.insert(id).second) return false;  // Both ends have met.
    return insert("run", columns, s, 0);
  }

  std::optional<std::int64_t> leap(const std::string& sql, std::int64_t from) {
    const auto readable = [&](std::int64_t after) {
      const auto s = prepare(from_, sql);
      if (!s) return false;
      sqlite3_bind_int64(s.get(), 1, after);
      return sqlite3_step(s.get()) == SQLITE_ROW;
    };
    for (std::int64_t step = 1; step < (std::int64_t{1} << 40); step *= 2) {
      if (!readable(from + step)) continue;
      auto bad = from + step / 2, good = from + step;
      while (good - bad > 1) {
        const auto middle = bad + (good - bad) / 2;
        (readable(middle) ? good : bad) = middle;
      }
      return good;
    }
    return {};
  }

  bool insert(const std::string& table, const std::string& columns, sqlite3_stmt* row, int first) {
    auto& s = inserts_[table];
    const int n = sqlite3_column_count(row) - first;
    if (!s) {
      std::string marks = "?";
      for (int i = 1; i < n; ++i) marks += ",?";
      s = prepare(to_,
                  "insert or ignore into " + table + "(" + columns + ") values(" + marks + ")");
    }
    for (int i = 0; i < n; ++i)
      sqlite3_bind_value(s.get(), i + 1, sqlite3_column_value(row, first + i));
    const bool done = sqlite3_step(s.get()) == SQLITE_DONE && sqlite3_changes(to_) == 1;
    sqlite3_reset(s.get());
    return done;
  }

  sqlite3 *from_, *to_;
  salvaged& out_;
  std::map<std::string, query> inserts_;
  std::set<std::string> lost_;
};

constexpr const char* run_columns =
    "id, key, owner, repo, sha, source, priority, payload, state, attempts, token, verdict, "
    "reason, "
    "created_ms, updated_ms";
constexpr const char* attempt_columns =
    "token, run, number, runner, offered_ms, ended_ms, verdict, reason, receipt";
constexpr const char* chunk_columns = "id, run, attempt, token, seq, stream, at_ms, data";
constexpr const char* event_columns = "id, run, attempt, token, at_ms, actor, what, detail";

/// What remains must be a journal that a dispatcher can go on with.
constexpr const char* make_whole = R"sql(
delete from attempt where run not in (select id from run);
insert or ignore into attempt(token, run, number, runner, offered_ms)
  select t, (select min(id) from run), 0, 'salvage',
    coalesce((select max(offered_ms) from attempt), 0) from (select max(t) as t from (
    select max(token) as t from event union all select max(token) from chunk
    union all select max(token) from run)) where t > 0 and exists(select 1 from run);
delete from chunk where run not in (select id from run);
delete from chunk where token in (select token from run where state in ('leased','running'));
delete from chunk where id in (select id from (
  select id, seq, row_number() over (partition by token order by seq) as place from chunk)
  where seq <> place);
delete from event where run not in (select id from run);
insert into event(run, attempt, token, at_ms, actor, what, detail)
  select id, attempts, token, updated_ms, 'salvage', 'story_lost', '' from run
  where id not in (select run from event);
insert into event(run, attempt, token, at_ms, actor, what, detail)
  select id, attempts, token, updated_ms, 'salvage', 'requeued',
    '{"reason":"its attempt was under way in a damaged journal"}'
  from run where state in ('leased','running');
)sql";

}  // namespace

result<std::vector<std::string>> check_file(const std::string& path) {
  auto db = open_existing(path);
  if (!db) return fail(db.error());
  std::vector<std::string> out;
  const bool reads = collect(db->get(), "pragma integrity_check(100)", out) &&
                     collect(db->get(),
                             "select 'a row of ' || \"table\" || ' refers to a run that is not "
                             "there' from pragma_foreign_key_check",
                             out);
  if (!reads || !out.empty()) {
    if (!reads) out.push_back(failure(db->get(), "read", path).message);
    return out;  // What its rules say of damaged pages is no news.
  }
  for (const auto* rule : rules)
    if (!collect(db->get(), rule, out)) return fail(failure(db->get(), "check", path));
  return out;
}

result<void> backup_file(const std::string& path, const std::string& to) {
  if (auto fresh = must_be_new(to); !fresh) return fresh;
  auto from = open_existing(path);
  if (!from) return fail(from.error());
  const auto temporary = to + ".part";
  std::filesystem::remove(temporary);
  {
    auto target = open(temporary, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    if (!target) return fail(target.error());
    auto* copy = sqlite3_backup_init(target->get(), "main", from->get(), "main");
    int code = copy ? SQLITE_OK : SQLITE_ERROR;
    while (code == SQLITE_OK || code == SQLITE_BUSY || code == SQLITE_LOCKED) {
      code = sqlite3_backup_step(copy, pages_per_step);
      if (code == SQLITE_BUSY || code == SQLITE_LOCKED) sqlite3_sleep(10);
    }
    if (copy) sqlite3_backup_finish(copy);
    if (code != SQLITE_DONE) {
      auto why = failure(target->get(), "copy", path);
      target->reset();
      std::filesystem::remove(temporary);
      return fail(std::move(why));
    }
  }
  // A copy that is not whole is no backup: the source may have been damaged for long.
  auto found = check_file(temporary);
  if (!found || !found->empty()) {
    std::filesystem::remove(temporary);
    return fail(ec::journal_corrupt, "the copy of " + path + " is not whole (" +
                                         (found ? found->front() : found.error().message) +
                                         "); `ntrace journal check` says more");
  }
  for (const auto* side : {"-wal", "-shm"}) std::filesystem::remove(temporary + side);
  return put_in_place(temporary, to);
}

result<salvaged> salvage_file(const std::string& path, const std::string& to) {
  if (auto fresh = must_be_new(to); !fresh) return fail(fresh.error());
  auto from = open_existing(path);
  if (!from) return fail(from.error());
  if (auto made = journal_sqlite::open(to, journal_sqlite::role::writer); !made)
    return fail(made.error());
  auto target = open(to, SQLITE_OPEN_READWRITE);
  if (!target) return fail(target.error());
  const auto run = [&](const char* sql) {
    return sqlite3_exec(target->get(), sql, nullptr, nullptr, nullptr) == SQLITE_OK;
  };
  salvaged out;
  if (!run("pragma foreign_keys=off; begin immediate"))
    return fail(failure(target->get(), "write", to));
  {
    salvager s{from->get(), target->get(), out};
    s.copy_numbered("event", event_columns);
    s.copy_numbered("attempt", attempt_columns);
    s.copy_numbered("chunk", chunk_columns);
    s.copy_runs(run_columns);
  }
  if (!run(make_whole) ||
      !run("update run set state='queued', token=0 where state in ('leased','running')"))
    return fail(failure(target->get(), "write", to));
  out.requeued = static_cast<std::size_t>(sqlite3_changes(target->get()));
  if (!run("commit")) return fail(failure(target->get(), "write", to));
  const auto count = [&](const char* table) -> std::size_t {
    const auto s = prepare(target->get(), std::string{"select count(*) from "} + table);
    if (!s || sqlite3_step(s.get()) != SQLITE_ROW) return 0;
    return static_cast<std::size_t>(sqlite3_column_int64(s.get(), 0));
  };
  out.runs = count("run");
  out.attempts = count("attempt");
  out.chunks = count("chunk");
  out.events = count("event");
  return out;
}

}  // namespace ntrace::journal
