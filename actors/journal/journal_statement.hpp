#pragma once
// What both halves of journal_sqlite use: one prepared statement, and the columns of a run.
#include <sqlite3.h>

#include "actors/journal/journal_sqlite.hpp"

#define NTRACE_RUN_COLUMNS \
  "id, owner, repo, sha, source, priority, state, attempts, token, created_ms"

namespace ntrace::journal {

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
  requires std::is_integral_v<Int> statement& bind(Int v) {
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
    return p ? std::string{p, static_cast<std::size_t>(sqlite3_column_bytes(s_, i))}
             : std::string{};
  }
  std::int64_t number(int i) const { return sqlite3_column_int64(s_, i); }
  std::uint64_t count(int i) const { return static_cast<std::uint64_t>(number(i)); }

private:
  journal_sqlite& owner_;
  sqlite3_stmt* s_;
  int at_ = 0;
};

/// A row that was selected as NTRACE_RUN_COLUMNS.
inline run_row read_run(const auto& s) {
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

}  // namespace ntrace::journal
