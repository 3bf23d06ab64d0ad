#pragma once
// The journal in one SQLite file: WAL, synchronous FULL, one writer. docs/architecture.md.
#include <memory>
#include <optional>

#include "actors/journal/journal_types.hpp"
#include "config/result.hpp"

struct sqlite3;
struct sqlite3_stmt;

namespace ntrace::journal {

/// One connection. Blocks; one thread at a time.
class journal_sqlite {
public:
  enum class role { writer, reader };
  /// Opens, creates or migrates <path>. ec::journal_corrupt, journal_schema or journal_failed say
  /// what to do.
  static result<std::unique_ptr<journal_sqlite>> open(const std::string& path, role r);
  ~journal_sqlite();
  journal_sqlite(const journal_sqlite&) = delete;
  journal_sqlite& operator=(const journal_sqlite&) = delete;

  /// Writes the batches in one transaction = one fsync. When it fails none of them is written:
  /// ec::journal_full or journal_failed.
  result<std::vector<committed>> commit(const std::vector<batch>& batches);

  /// Runs that are not terminal, oldest first; and the highest token ever given.
  result<std::vector<run_row>> open_runs();
  result<std::uint64_t> highest_token();

  /// Filters: repo "OWNER/REPO", state, since_ms, limit. Newest first.
  result<nlohmann::json> runs(const nlohmann::json& filter);
  /// One run with its attempts. ec::not_found.
  result<nlohmann::json> show(const std::string& run);
  /// Chunks of the run after `after` (journal order), at most `bytes_max` of data; see
  /// docs/protocol.md.
  result<nlohmann::json> logs(const std::string& run, std::uint64_t after,
                              const std::string& stream, std::size_t bytes_max);
  /// The run's events.
  result<nlohmann::json> why(const std::string& run);
  /// Runs by state.
  result<nlohmann::json> counts();

private:
  class statement;
  journal_sqlite() = default;
  result<void> migrate();
  error failure(const std::string& what) const;
  result<committed> apply(const batch& b, std::int64_t now_ms);
  result<std::optional<run_row>> find_by_key(const std::string& key);
  result<void> write(const operation& op, std::int64_t now_ms, committed& out);
  sqlite3_stmt* prepared(const char* sql);

  sqlite3* db_ = nullptr;
  std::string path_;
  std::vector<std::pair<const char*, sqlite3_stmt*>> statements_;
};

/// A run's id must look like one before it is looked up.
result<void> check_run_id(const std::string& run);

}  // namespace ntrace::journal
