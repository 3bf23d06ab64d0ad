#pragma once
// The outbox on disk: one SQLite file, WAL, synchronous FULL. docs/protocol.md, "The outbox".
#include "actors/runner/outbox_types.hpp"
#include "config/sqlite.hpp"

namespace ntrace::runner {

/// Blocks; one thread at a time.
class outbox_sqlite {
public:
  /// Opens or creates <path>. ec::journal_corrupt, journal_schema or journal_failed say what to do.
  static result<std::unique_ptr<outbox_sqlite>> open(const std::string& path);

  /// All or nothing, on disk when it returns.
  result<void> write(const std::vector<outbox_record>& records);
  /// Every attempt that is not over, by token.
  result<std::vector<kept_attempt>> attempts();
  /// The chunks `from` to `to`, all of them. ec::journal_corrupt when one is missing.
  result<std::vector<chunk>> chunks(std::uint64_t token, std::uint64_t from, std::uint64_t to);

private:
  explicit outbox_sqlite(std::unique_ptr<sqlite::connection> db) : db_{std::move(db)} {}
  result<void> write_one(const outbox_record& record);

  std::unique_ptr<sqlite::connection> db_;
};

}  // namespace ntrace::runner
