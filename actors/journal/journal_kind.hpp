#pragma once
// What the journal's file is to people, for what is said of its failures.
#include "config/sqlite.hpp"

namespace ntrace::journal {

inline sqlite::file_kind journal_kind() {
  return {"the journal",
          "`ntrace journal salvage {path} NEW` saves what is whole, or put a backup in place", true,
          "event"};
}

}  // namespace ntrace::journal
