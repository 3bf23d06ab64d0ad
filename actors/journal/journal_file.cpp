#include "actors/journal/journal_file.hpp"

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <sstream>

#include "actors/journal/journal_raw.hpp"
#include "actors/journal/run_columns.hpp"
#include "actors/journal/story_check.hpp"
#include "config/file.hpp"

namespace ntrace::journal {
namespace {

using namespace raw;

/// A file that is being made under another name: gone unless it was finished.
class unfinished {
public:
  explicit unfinished(std::string to) : to_{std::move(to)}, path_{to_ + ".part"} { clear(); }
  ~unfinished() { clear(); }
  unfinished(const unfinished&) = delete;
  unfinished& operator=(const unfinished&) = delete;
  const std::string& path() const { return path_; }
  result<void> finish() const { return put_in_place(path_, to_); }

private:
  void clear() const {
    std::error_code ignored;  // One that is not there is as good as removed.
    for (const auto* side : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + side, ignored);
  }
  std::string to_, path_;
};

result<void> must_be_new(const std::string& to) {
  if (std::filesystem::exists(to))
    return fail(ec::bad_argument, to + " exists already; name a new file");
  return {};
}

/// Reads the rows of a table with a rowid, stepping over places that cannot be read: from behind
/// the last good row it doubles its leap until a row comes, then halves it to lose as few as it
/// can.
class salvager {
public:
  salvager(sqlite3* from, sqlite3* to, salvaged& out) : from_{from}, to_{to}, out_{out} {}

  /// The new journal could not be written: what was read is not all in it.
  bool has_failed() const { return has_failed_; }

  void copy_numbered(const std::string& table, const std::string& columns) {
    std::int64_t last = 0;
    const auto sql =
        "select rowid, " + columns + " from " + table + " where rowid > ? order by rowid";
    for (;;) {
      const auto s = prepare(from_, sql);
      if (!s) return;
      sqlite3_bind_int64(s.get(), 1, last);
      int code = SQLITE_ROW;
      while (!has_failed_ && (code = sqlite3_step(s.get())) == SQLITE_ROW) {
        last = sqlite3_column_int64(s.get(), 0);
        insert(table, columns, s.get(), 1);
      }
      if (has_failed_ || code == SQLITE_DONE) return;
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
      if (has_failed_ || code == SQLITE_DONE) return;
    }
    ++out_.unreadable;
    for (const auto* table : {"event", "attempt", "chunk"})
      look_up_runs(to_, std::string{"select distinct run from "} + table, columns, seen);
    // An index lies on pages of its own, and has the ids too.
    for (const auto* index : {"run_key where key is not null order by key",
                              "run_queued where state='queued' order by journal_seq",
                              "run_leased where state in ('leased','running') order by state",
                              "run_ended where " NTRACE_RUN_HAS_ENDED " order by updated_ms"})
      for (const auto* order : {"asc", "desc"})
        look_up_runs(from_, std::string{"select id from run indexed by "} + index + " " + order,
                     columns, seen);
  }

  /// A table without numbers whose rows can be missed: up to the first place that cannot be read.
  void copy_small(const std::string& table, const std::string& columns) {
    const auto s = prepare(from_, "select " + columns + " from " + table);
    if (!s) return;  // An older journal has none.
    int code = SQLITE_ROW;
    while (!has_failed_ && (code = sqlite3_step(s.get())) == SQLITE_ROW)
      insert(table, columns, s.get(), 0);
    if (!has_failed_ && code != SQLITE_DONE) ++out_.unreadable;
  }

private:
  /// Takes the runs that `names` gives, one by one.
  void look_up_runs(sqlite3* in, const std::string& names, const std::string& columns,
                    std::set<std::string>& seen) {
    const auto ids = prepare(in, names);
    while (ids && sqlite3_step(ids.get()) == SQLITE_ROW) {
      const auto id = text_of(ids.get(), 0);
      if (seen.count(id) != 0) continue;
      const auto s = prepare(from_, "select " + columns + " from run where id = ?");
      if (s)
        sqlite3_bind_text(s.get(), 1, id.data(), static_cast<int>(id.size()), SQLITE_TRANSIENT);
      const bool is_there =
          s && sqlite3_step(s.get()) == SQLITE_ROW && take(columns, s.get(), seen);
      if (!is_there && lost_.insert(id).second) out_.lost_runs.push_back(id);
    }
  }

  bool take(const std::string& columns, sqlite3_stmt* s, std::set<std::string>& seen) {
    const auto id = text_of(s, 0);
    if (!seen.insert(id).second) return false;  // Both ends have met.
    insert("run", columns, s, 0);
    return !has_failed_;
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

  void insert(const std::string& table, const std::string& columns, sqlite3_stmt* row, int first) {
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
    has_failed_ = has_failed_ || sqlite3_step(s.get()) != SQLITE_DONE;
    if (!has_failed_) sqlite3_reset(s.get());  // Else it would forget what to say of it.
  }

  sqlite3 *from_, *to_;
  salvaged& out_;
  std::map<std::string, query> inserts_;
  std::set<std::string> lost_;
  bool has_failed_ = false;
};

constexpr const char* run_columns =
    "id, key, journal_seq, owner, repo, sha, source, priority, payload, state, attempts, token, "
    "verdict, reason, created_ms, updated_ms, deadline_ms, has_source, asked_deadline_ms";
constexpr const char* attempt_columns =
    "token, run, number, runner, offered_ms, ended_ms, verdict, reason, receipt, is_expired, "
    "run_id";
constexpr const char* chunk_columns = "id, run, attempt, token, seq, stream, at_ms, data";
constexpr const char* event_columns = "id, run, attempt, token, at_ms, actor, what, detail";
constexpr const char* outage_columns =
    "run, total, tries, host, cause, message, waited_ms, wait_ms, since_ms, at_ms";

/// Those of `columns` that the table has: one of an older schema lacks some. All of them where its
/// own description cannot be read.
std::string columns_there(sqlite3* db, const std::string& table, const std::string& columns) {
  const auto s = prepare(db, "select name from pragma_table_info('" + table + "')");
  std::set<std::string> there;
  while (s && sqlite3_step(s.get()) == SQLITE_ROW) there.insert(text_of(s.get(), 0));
  if (there.empty()) return columns;
  std::string out;
  std::stringstream all{columns};
  for (std::string name; std::getline(all >> std::ws, name, ',');)
    if (there.count(name) != 0) out += (out.empty() ? "" : ", ") + name;
  return out;
}

/// What remains must be a journal that a dispatcher can go on with.
constexpr const char* make_whole = R"sql(
delete from attempt where token not between 1 and 0x3fffffffffffffff;
delete from chunk where typeof(token)<>'integer' or token not between 1 and 0x3fffffffffffffff;
update event set token=0
  where typeof(token)<>'integer' or token not between 0 and 0x3fffffffffffffff;
update run set token=0
  where typeof(token)<>'integer' or token not between 0 and 0x3fffffffffffffff;
update run set key=null where key=id;
update run set journal_seq=(select min(event.id) from event where event.run=run.id)
  where journal_seq=0 and id in (select run from event where what='queued');
delete from event where what='queued';
delete from attempt where run not in (select id from run);
insert or ignore into attempt(token, run, number, runner, offered_ms)
  select t, (select min(id) from run), 0, 'salvage',
    coalesce((select max(offered_ms) from attempt), 0) from (select max(t) as t from (
    select max(token) as t from event union all select max(token) from chunk
    union all select max(token) from run)) where t > 0 and exists(select 1 from run);
delete from chunk where run not in (select id from run);
insert or ignore into attempt(token, run, number, runner, offered_ms)
  select token, min(run), min(attempt), 'salvage', 0 from chunk group by token;
delete from chunk where run<>(select run from attempt where attempt.token=chunk.token);
update run set journal_seq=0 where journal_seq in (
    select journal_seq from run where journal_seq<>0 group by journal_seq having count(*)>1)
  or journal_seq in (select id from event);
insert into sqlite_sequence(name, seq) select 'event', 0
  where not exists(select 1 from sqlite_sequence where name='event');
update sqlite_sequence set seq=max(seq, (select coalesce(max(journal_seq), 0) from run))
  where name='event';
delete from chunk where token in (select token from run where state in ('leased','running'));
delete from chunk where id in (select id from (
  select id, seq, row_number() over (partition by token order by seq) as place from chunk)
  where seq <> place);
delete from doc where token not in (select token from attempt)
  or token in (select token from run where state in ('leased','running'));
delete from outage
  where run not in (select id from run where state not in ('leased','running'));
delete from event where run not in (select id from run);
update attempt set number=coalesce((select max(attempt) from event where event.run=attempt.run
  and event.token=attempt.token and event.what='accepted'), number);
insert into event(run, attempt, token, at_ms, actor, what, detail)
  select id, attempts, token, updated_ms, 'salvage', 'story_lost', '{"state":"' || state || '"}'
  from run
  where (state <> 'queued' or token <> 0) and id not in (select run from event);
insert into event(run, attempt, token, at_ms, actor, what, detail)
  select id, attempts, token, updated_ms, 'salvage', 'requeued',
    '{"reason":"its attempt was under way in a damaged journal"}'
  from run where state in ('leased','running');
)sql";

result<void> salvage(sqlite3* from, sqlite3* target, const std::string& to, salvaged& out) {
  const auto run = [&](const char* sql) {
    return sqlite3_exec(target, sql, nullptr, nullptr, nullptr) == SQLITE_OK;
  };
  const auto failed = [&] { return fail(sqlite::failure(target, journal_kind(), "write", to)); };
  if (!run("pragma foreign_keys=off; begin immediate")) return failed();
  {
    salvager s{from, target, out};
    s.copy_numbered("event", event_columns);
    s.copy_numbered("attempt", columns_there(from, "attempt", attempt_columns));
    s.copy_numbered("chunk", chunk_columns);
    s.copy_runs(columns_there(from, "run", run_columns));
    s.copy_small("doc", "id, token");
    s.copy_small("flag", "name, value");
    s.copy_small("outage", outage_columns);
    if (s.has_failed()) return failed();
  }
  if (!run(make_whole) ||
      !run(
          "update run set state='queued', attempts=0, token=0 where state in ('leased','running')"))
    return failed();
  out.requeued = static_cast<std::size_t>(sqlite3_changes(target));
  if (!run("commit")) return failed();
  for (const auto& [table, n] :
       {std::pair{"run", &out.runs}, std::pair{"attempt", &out.attempts},
        std::pair{"chunk", &out.chunks}, std::pair{"event", &out.events}}) {
    const auto s = prepare(target, std::string{"select count(*) from "} + table);
    if (!s || sqlite3_step(s.get()) != SQLITE_ROW) return failed();
    *n = static_cast<std::size_t>(sqlite3_column_int64(s.get(), 0));
  }
  return {};
}

/// Stories that break a rule begin anew: what was lost, or never was as it is told, is not known.
result<std::size_t> forget_broken_stories(const std::string& path) {
  constexpr std::size_t page = 1000;
  auto db = journal_sqlite::open(path, sqlite::role::writer);
  if (!db) return fail(db.error());
  std::set<std::string> broken;
  const auto lost = (*db)->last_lost_story();
  if (!lost) return fail(lost.error());
  token_order order;
  for (std::int64_t at = *lost;;) {
    const auto lines = (*db)->news_after(at, page);
    if (!lines) return fail(lines.error());
    for (const auto& one : lines->offers)
      if (order.on_offered(one.run, one.token)) broken.insert(one.run);
    at = lines->last_event;
    if (lines->lines < page) break;
  }
  for (std::string last;;) {
    const auto ids = (*db)->run_ids(last, page);
    if (!ids) return fail(ids.error());
    for (const auto& id : *ids) {
      const auto judged = (*db)->judge_run(id, {}, SIZE_MAX);
      if (!judged) return fail(judged.error());
      if (judged->count != 0) broken.insert(id);
    }
    if (ids->size() < page) break;
    last = ids->back();
  }
  for (const auto& id : broken) {
    const auto shown = (*db)->show(id);
    if (!shown) return fail(shown.error());
    const event told{id, 0, 0, "salvage", "story_lost", {{"state", (*shown)["state"]}}};
    if (auto done = (*db)->commit({{told}}); !done) return fail(done.error());
  }
  return broken.size();
}

}  // namespace

result<void> backup_file(const std::string& path, const std::string& to, bool as_is) {
  if (auto fresh = must_be_new(to); !fresh) return fresh;
  auto from = open_existing(path);
  if (!from) return fail(from.error());
  const unfinished copy{to};
  {
    // One snapshot: a writer goes on meanwhile, and never makes it begin anew.
    const auto s = prepare(from->get(), "vacuum into ?");
    if (!s) return fail(sqlite::failure(from->get(), journal_kind(), "copy", path));
    sqlite3_bind_text(s.get(), 1, copy.path().c_str(), -1, SQLITE_TRANSIENT);
    if (sqlite3_step(s.get()) != SQLITE_DONE)
      return fail(sqlite::failure(from->get(), journal_kind(), "copy", path));
  }
  // A copy that is not whole is no backup: the source may have been damaged for long.
  const auto found = as_is ? checked{} : check_file(copy.path());
  if (!found) return fail(found.error());
  if (found->count != 0)
    return fail(ec::journal_corrupt, "the copy of " + path + " is not whole (" +
                                         found->findings.front() +
                                         "); `ntrace journal check` says more, --as-is copies it "
                                         "all the same");
  return copy.finish();
}

result<std::pair<std::uintmax_t, std::uintmax_t>> compact_file(const std::string& path) {
  auto db = open_existing(path);
  if (!db) return fail(db.error());
  // While the dispatcher works, most of a small journal lies in its log.
  std::error_code error;
  const auto bytes = [&] {
    std::error_code no_log;
    const auto log = std::filesystem::file_size(path + "-wal", no_log);
    return std::filesystem::file_size(path, error) + (no_log ? 0 : log);
  };
  const auto before = bytes();
  const bool is_done =
      sqlite3_exec(db->get(),
                   "pragma auto_vacuum=incremental; vacuum; pragma wal_checkpoint(truncate)",
                   nullptr, nullptr, nullptr) == SQLITE_OK;
  if (!is_done) return fail(sqlite::failure(db->get(), journal_kind(), "compact", path));
  const auto after = bytes();
  if (error) return fail(ec::io, "cannot read the size of " + path + ": " + error.message());
  return std::pair{before, after};
}

result<salvaged> salvage_file(const std::string& path, const std::string& to) {
  if (auto fresh = must_be_new(to); !fresh) return fail(fresh.error());
  auto from = open_existing(path);
  if (!from) return fail(from.error());
  // An empty journal in the place of what nothing can be read of would look like a success.
  if (!prepare(from->get(), "select 1 from event"))
    return fail(ec::journal_corrupt, "nothing of " + path + " can be read (" +
                                         sqlite3_errmsg(from->get()) +
                                         "); put a backup in its place, or start without it");
  const unfinished made{to};
  if (auto fresh = journal_sqlite::open(made.path(), sqlite::role::writer); !fresh)
    return fail(fresh.error());
  salvaged out;
  {
    auto target = open(made.path(), SQLITE_OPEN_READWRITE);
    if (!target) return fail(target.error());
    if (auto done = salvage(from->get(), target->get(), to, out); !done) return fail(done.error());
  }
  const auto forgotten = forget_broken_stories(made.path());
  if (!forgotten) return fail(forgotten.error());
  out.stories_lost = *forgotten;
  if (auto placed = made.finish(); !placed) return fail(placed.error());
  return out;
}

}  // namespace ntrace::journal
