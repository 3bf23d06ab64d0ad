#pragma once
// A journal's file as it is, damaged or not: what its operators' tools share.
#include <sqlite3.h>

#include <filesystem>
#include <memory>
#include <string>

#include "actors/journal/journal_kind.hpp"

namespace ntrace::journal::raw {

struct closer {
  void operator()(sqlite3* db) const { sqlite3_close(db); }
  void operator()(sqlite3_stmt* s) const { sqlite3_finalize(s); }
};
using database = std::unique_ptr<sqlite3, closer>;
using query = std::unique_ptr<sqlite3_stmt, closer>;

inline result<database> open(const std::string& path, int flags) {
  sqlite3* raw = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &raw, flags, nullptr);
  database db{raw};
  if (code != SQLITE_OK) return fail(sqlite::failure(raw, journal_kind(), "open", path));
  sqlite3_busy_timeout(raw, sqlite::busy_ms);
  return db;
}

/// Null when the statement cannot be made.
inline query prepare(sqlite3* db, const std::string& sql) {
  sqlite3_stmt* s = nullptr;
  sqlite3_prepare_v2(db, sql.c_str(), -1, &s, nullptr);
  return query{s};
}

/// ec::not_found when there is no such file, journal_corrupt when it is whole and no journal. One
/// that cannot be read is for the caller to look at.
inline result<database> open_existing(const std::string& path) {
  if (!std::filesystem::exists(path))
    return fail(ec::not_found,
                "there is no journal at " + path + "; name its file, or its folder with --data");
  // A reader of a WAL may have to make its index; but nothing is moved into the file by us.
  auto db = open(path, SQLITE_OPEN_READWRITE);
  if (!db) return db;
  sqlite3_db_config(db->get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  const auto s = prepare(db->get(), "select 1 from sqlite_master where name='event'");
  if (s && sqlite3_step(s.get()) == SQLITE_DONE)
    return fail(ec::journal_corrupt,
                path + " is no journal of ntrace: it is empty, or a database of another program");
  return db;
}

inline std::string text_of(sqlite3_stmt* s, int column) {
  const auto* p = reinterpret_cast<const char*>(sqlite3_column_text(s, column));
  return p ? p : "";
}

}  // namespace ntrace::journal::raw
