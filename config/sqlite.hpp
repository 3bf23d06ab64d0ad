#pragma once
// One SQLite connection with its prepared statements, for the files that ntrace keeps: WAL,
// synchronous FULL, schema steps. What a failure means is in one place for all of them.
#include <sqlite3.h>

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "config/result.hpp"

namespace ntrace::sqlite {

/// How long a lock that another connection holds is waited for; a checkpoint's lasts milliseconds.
inline constexpr int busy_ms = 5000;

/// What the file is to people, and what to do about one that is damaged.
struct file_kind {
  std::string name;         ///< "the journal"
  std::string when_broken;  ///< A sentence's end; {path} stands for the file.
  bool can_shrink = false;  ///< A new file is made so that free pages can be given back.
  std::string table = {};   ///< That its files have, and others of ours have not; empty: any.
};

/// The last failure of `db` (null: it could not even be made) while it was to `what` the file at
/// `path`: ec::journal_full, journal_corrupt or journal_failed, with what to do.
error failure(sqlite3* db, const file_kind& kind, const std::string& what, const std::string& path);

enum class role { writer, reader };

/// Blocks; one thread at a time.
class connection {
public:
  /// Opens, creates or migrates <path>: a writer brings the file from its user_version to the last
  /// of `steps`. ec::journal_schema when a newer ntrace wrote it; journal_corrupt for one that
  /// belongs to another program, which stays as it is.
  static result<std::unique_ptr<connection>> open(file_kind kind, const std::string& path, role r,
                                                  std::span<const std::string_view> steps);
  ~connection();
  connection(const connection&) = delete;
  connection& operator=(const connection&) = delete;

  /// Statements that give no rows.
  [[nodiscard]] bool run(const char* sql) {
    return sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) == SQLITE_OK;
  }
  /// Takes the transaction back. It fails when that is gone already: then there is nothing to undo.
  void undo() { sqlite3_exec(db_, "rollback", nullptr, nullptr, nullptr); }
  error failure(const std::string& what) const { return sqlite::failure(db_, kind_, what, path_); }
  /// It will be closed without another write: what it believes to be in the file is in doubt.
  void abandon();
  sqlite3* handle() const { return db_; }
  const std::string& path() const { return path_; }

private:
  friend class statement;
  connection() = default;
  result<void> expect_own_file();
  result<void> migrate(std::span<const std::string_view> steps);
  /// `sql` is a literal: its address is its name.
  sqlite3_stmt* prepared(const char* sql);

  file_kind kind_;
  std::string path_;
  sqlite3* db_ = nullptr;
  std::vector<std::pair<const char*, sqlite3_stmt*>> statements_;
};

/// One use of a prepared statement: bind in order, step, read columns; reset at the end.
class statement {
public:
  statement(connection& owner, const char* sql) : owner_{owner}, s_{owner.prepared(sql)} {}
  ~statement() {
    if (s_) sqlite3_reset(s_);
    if (s_) sqlite3_clear_bindings(s_);
  }
  statement(const statement&) = delete;
  statement& operator=(const statement&) = delete;

  statement& bind(std::string_view v) {
    sqlite3_bind_text64(s_, ++at_, v.data(), v.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
    return *this;
  }
  /// `v` is not copied: it must live until the statement is stepped.
  statement& bind_text(std::string_view v) {
    sqlite3_bind_text64(s_, ++at_, v.data(), v.size(), SQLITE_STATIC, SQLITE_UTF8);
    return *this;
  }
  /// As bind_text.
  statement& bind_blob(std::string_view v) {
    sqlite3_bind_blob64(s_, ++at_, v.data(), v.size(), SQLITE_STATIC);
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
  /// Steps a statement that gives no row.
  result<void> done() {
    if (auto stepped = step(); !stepped) return fail(stepped.error());
    return {};
  }
  /// Calls `take` for each row.
  template <class F>
  result<void> each(F take) {
    for (;;) {
      auto row = step();
      if (!row) return fail(row.error());
      if (!*row) return {};
      take(*this);
    }
  }
  std::string text(int i) const {
    const auto* p = reinterpret_cast<const char*>(sqlite3_column_blob(s_, i));
    return p ? std::string{p, static_cast<std::size_t>(sqlite3_column_bytes(s_, i))}
             : std::string{};
  }
  bool is_null(int i) const { return sqlite3_column_type(s_, i) == SQLITE_NULL; }
  std::int64_t number(int i) const { return sqlite3_column_int64(s_, i); }
  std::uint64_t count(int i) const { return static_cast<std::uint64_t>(number(i)); }

private:
  connection& owner_;
  sqlite3_stmt* s_;
  int at_ = 0;
};

}  // namespace ntrace::sqlite
