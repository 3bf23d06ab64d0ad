#pragma once
// Changes a SQLite file behind the back of those who keep it.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <string>

namespace ntrace::test {

inline void change_by_hand(const std::string& path, const std::string& sql) {
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
  sqlite3_busy_timeout(db, 5000);
  EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
      << sqlite3_errmsg(db);
  sqlite3_close(db);
}

}  // namespace ntrace::test
