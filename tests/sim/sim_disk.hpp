#pragma once
// The journal as SQLite keeps it, on a disk that can lose what was not synced: same batches, same
// answers, in memory. journal_conformance_test holds it against the real file.
#include <map>
#include <optional>

#include "actors/journal/journal_types.hpp"

namespace ntrace::sim {

class sim_disk {
public:
  struct run_record {
    journal::run_row row;
    std::string key, reason;
    std::optional<domain::verdict> verdict;
    std::vector<std::uint64_t> tokens;
    bool has_source = false;
    std::int64_t asked_deadline_ms = 0;
  };
  struct image {
    std::map<std::string, run_record> runs;
    std::map<std::string, std::string> run_of_key;
    std::map<std::uint64_t, std::uint64_t> chunks;  ///< Token → highest number.
    struct attempt_record {
      std::uint64_t number = 0;
      bool is_expired = false;
      std::string run_id;  ///< Of a consumer of the old protocol.
    };
    std::map<std::uint64_t, attempt_record> attempts;  ///< By token.
    std::map<std::string, bool> flags;
    std::map<std::string, std::uint64_t> docs;  ///< Id → token.
    std::uint64_t seq = 0;
  };

  /// Writes the batches, not yet synced. A duplicate or stale batch leaves nothing, as in SQLite.
  std::vector<journal::committed> write(const std::vector<journal::batch>& batches,
                                        std::int64_t wall_ms = 1);
  /// What was written is durable; gives its operations in order.
  std::vector<journal::operation> sync();
  /// The write is undone.
  void roll_back();
  /// Power is gone. What was written and not synced is there whole when `is_kept`, else not at all:
  /// the log's checksums drop a torn tail. Gives the operations that turned out to be there.
  std::vector<journal::operation> crash(bool is_kept);

  /// Deletes each run that has ended, but for that of the highest token, as retention does when the
  /// file is near its bound. Nothing may be unsynced. Gives their ids.
  std::vector<std::string> delete_ended();

  std::vector<journal::run_row> open_runs() const;
  /// Of the attempts that are kept.
  std::uint64_t highest_token() const {
    return durable_.attempts.empty() ? 0 : durable_.attempts.rbegin()->first;
  }
  const image& durable() const { return durable_; }
  std::optional<journal::run_row> find(const std::string& run) const;

private:
  /// Whether `token` is the run's live one.
  static bool has_live(const image& in, const std::string& run, std::uint64_t token);
  static std::uint64_t last_attempt(const image& in, const run_record& r);
  static journal::committed apply(image& to, const journal::batch& b, std::int64_t wall_ms);
  static void set_outages(image& to, const journal::set_outages& o, std::int64_t wall_ms);
  image durable_;
  std::optional<image> written_;
  std::vector<journal::operation> unsynced_;
};

}  // namespace ntrace::sim
