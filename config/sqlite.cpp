#include "config/sqlite.hpp"

#include <fmt/core.h>
#include <filesystem>

#include "config/sqlite_joined_log.hpp"

namespace ntrace::sqlite {

error failure(sqlite3* db, const file_kind& kind, const std::string& what,
              const std::string& path) {
  const int code = db ? sqlite3_errcode(db) : SQLITE_NOMEM;
  const auto text = fmt::format("cannot {} {} {}: {}", what, kind.name, path,
                                db ? sqlite3_errmsg(db) : "out of memory");
  switch (code & 0xff) {
    case SQLITE_FULL:
      return {ec::journal_full, text + "; make room on its disk, it goes on by itself", {}};
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: {
      auto next = kind.when_broken;
      if (const auto at = next.find("{path}"); at != std::string::npos) next.replace(at, 6, path);
      return {ec::journal_corrupt, text + "; " + next, {}};
    }
    case SQLITE_IOERR:
      return {ec::journal_lost,
              text + "; its disk fails; it goes on by itself once that is repaired",
              {}};
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
      return {ec::journal_failed,
              text + "; make it and its folder writable for the user that runs ntrace",
              {}};
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return {ec::journal_failed,
              text + "; another program holds it (fuser names it); it goes on by itself afterwards",
              {}};
    default:
      return {ec::journal_failed, text, {}};
  }
}

result<std::unique_ptr<connection>> connection::open(file_kind kind, const std::string& path,
                                                     role r,
                                                     std::span<const std::string_view> steps) {
  // Nobody asks how much memory SQLite uses, and counting takes a lock at each allocation.
  [[maybe_unused]] static const int once = sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
  std::unique_ptr<connection> out{new connection};
  out->kind_ = std::move(kind);
  out->path_ = path;
  const int flags =
      r == role::writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
  const char* layer = r == role::writer ? joined_log_vfs() : nullptr;
  if (sqlite3_open_v2(path.c_str(), &out->db_, flags | SQLITE_OPEN_NOMUTEX, layer) != SQLITE_OK)
    return fail(out->failure("open"));
  sqlite3_busy_timeout(out->db_, busy_ms);
  if (r == role::reader) return out;
  // Before anything that writes.
  if (auto own = out->expect_own_file(); !own) return fail(own.error());
  // Only a file without tables takes this; it comes first for that.
  if (out->kind_.can_shrink && !out->run("pragma auto_vacuum=incremental"))
    return fail(out->failure("open"));
  if (!out->run("pragma journal_mode=wal; pragma synchronous=full;"
                " pragma wal_autocheckpoint=4096; pragma journal_size_limit=67108864"))
    return fail(out->failure("open"));
  if (auto migrated = out->migrate(steps); !migrated) return fail(migrated.error());
  // After the steps: one may put a table in another's place, which others refer to.
  if (!out->run("pragma foreign_keys=on")) return fail(out->failure("open"));
  return out;
}

void connection::abandon() { sqlite3_db_config(db_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr); }

connection::~connection() {
  for (const auto& [text, s] : statements_) sqlite3_finalize(s);
  sqlite3_close(db_);
}

sqlite3_stmt* connection::prepared(const char* sql) {
  for (const auto& [text, s] : statements_)
    if (text == sql) return s;
  sqlite3_stmt* s = nullptr;
  if (sqlite3_prepare_v3(db_, sql, -1, SQLITE_PREPARE_PERSISTENT, &s, nullptr) != SQLITE_OK)
    return nullptr;
  statements_.emplace_back(sql, s);
  return s;
}

/// A file without tables is a new one; but SQLite takes any few bytes for such a one, too.
result<void> connection::expect_own_file() {
  if (kind_.table.empty()) return {};
  statement s{*this, "select count(*), coalesce(sum(name=?), 0) from sqlite_master"};
  s.bind(kind_.table);
  if (auto row = s.step(); !row) return fail(failure("open"));
  constexpr std::uintmax_t page_bytes_min = 512;
  std::error_code none;
  const auto bytes = std::filesystem::file_size(path_, none);
  const bool is_new = s.number(0) == 0 && (none || bytes == 0 || bytes >= page_bytes_min);
  if (is_new || s.number(1) != 0) return {};
  return fail(ec::journal_corrupt,
              fmt::format("{} is a file of another program, and not {} of ntrace: it is left as it "
                          "is; move it away, or name another folder",
                          path_, kind_.name));
}

result<void> connection::migrate(std::span<const std::string_view> steps) {
  std::size_t version = 0;
  {
    statement s{*this, "pragma user_version"};
    auto row = s.step();
    if (!row) return fail(row.error());
    version = static_cast<std::size_t>(s.count(0));
  }
  if (version > steps.size())
    return fail(ec::journal_schema,
                fmt::format("{} {} has schema {}, this ntrace knows up to {}; upgrade ntrace",
                            kind_.name, path_, version, steps.size()));
  for (; version < steps.size(); ++version) {
    const auto sql = fmt::format("begin immediate;{}pragma user_version={};commit;", steps[version],
                                 version + 1);
    if (run(sql.c_str())) continue;
    auto e = failure("migrate");
    undo();
    return fail(std::move(e));
  }
  return {};
}

}  // namespace ntrace::sqlite
