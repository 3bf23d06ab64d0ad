#pragma once
// What a failure of SQLite means for the journal, in one place for its writer and its tools.
#include <sqlite3.h>

#include <string>

#include "config/error.hpp"

namespace ntrace::journal {

/// How long a lock that another connection holds is waited for; a checkpoint's lasts milliseconds.
inline constexpr int busy_ms = 5000;

/// The last failure of `db` (null: it could not even be made) while it was to `what` the file at
/// `path`: ec::journal_full, journal_corrupt or journal_failed, with what to do.
inline error sqlite_failure(sqlite3* db, const std::string& what, const std::string& path) {
  const int code = db ? sqlite3_errcode(db) : SQLITE_NOMEM;
  const auto text = "cannot " + what + " the journal " + path + ": " +
                    (db ? sqlite3_errmsg(db) : "out of memory");
  switch (code) {
    case SQLITE_FULL:
      return {ec::journal_full, text + "; make room on its disk, it goes on by itself", {}};
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return {ec::journal_corrupt,
              text + "; `ntrace journal salvage " + path +
                  " NEW` saves what is whole, or put a backup in place",
              {}};
    default:
      return {ec::journal_failed, text, {}};
  }
}

}  // namespace ntrace::journal
