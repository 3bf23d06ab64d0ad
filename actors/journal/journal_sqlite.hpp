#pragma once
// The journal in one SQLite file: WAL, synchronous FULL, one writer. docs/architecture.md.
#include <memory>
#include <optional>
#include <set>

#include "actors/domain/queries.hpp"
#include "actors/journal/journal_types.hpp"
#include "config/clock.hpp"
#include "config/sqlite.hpp"

namespace ntrace::journal {

/// What the journal keeps of runs that have ended. The oldest go first, whole.
struct retention {
  milliseconds age{0};     ///< Since the end; 0: any.
  std::int64_t bytes = 0;  ///< The file's bound: above four fifths of it runs go early; 0: none.
};
struct retained {
  std::size_t runs = 0, chunks = 0, refusals = 0, pages = 0;  ///< Deleted; pages: given back.
  bool is_more = false;                                       ///< Call again.
};

/// What was written since a line of the story.
struct news {
  std::int64_t last_event = 0;
  std::size_t lines = 0;
  struct offer {
    std::int64_t line = 0;
    std::string run;
    std::uint64_t token = 0;
  };
  std::vector<offer> offers;        ///< In their order.
  std::uint64_t highest_token = 0;  ///< Of all lines.
  std::set<std::string> runs;       ///< That more became of than that they were pushed.
};
/// Of a run in the order of pushes; at first before all.
struct queue_place {
  std::int64_t seq = -1;
  std::string id;
};
struct story;
struct story_rules;
struct judgement;

/// One connection. Blocks; one thread at a time.
class journal_sqlite {
public:
  /// Opens, creates or migrates <path>. ec::journal_corrupt, journal_schema or journal_failed say
  /// what to do.
  static result<std::unique_ptr<journal_sqlite>> open(const std::string& path, sqlite::role r);

  /// Writes the batches in one transaction = one fsync. When it fails none of them is written:
  /// ec::journal_full or journal_failed.
  /// ec::journal_lost: the disk failed, and this connection is good for nothing more.
  result<std::vector<committed>> commit(const std::vector<batch>& batches);

  /// Pushes and events are numbered in one count. The last number that a commit confirmed; and
  /// after a disk failed, on a new connection: is the file whole, and does it have that number?
  /// ec::journal_corrupt when not.
  std::int64_t durable_seq() const { return durable_seq_; }
  result<void> verify(std::int64_t durable_seq);
  void abandon() { db_->abandon(); }

  /// The file never grows beyond this; a write that would need it fails as ec::journal_full.
  result<void> bound(std::int64_t bytes);
  /// Deletes some of what is kept no longer, in one short transaction of its own.
  result<retained> retain(const retention& keep, std::int64_t now_ms);
  /// Bytes of the file, and those of them that hold nothing.
  result<std::pair<std::int64_t, std::int64_t>> size();

  /// Runs that are not terminal, in the order of their pushes: those with a lease, and those
  /// without, `limit` of them behind `place`, which becomes that of the last.
  result<std::vector<run_row>> leased_runs();
  result<std::vector<run_row>> queued_runs(queue_place& place, std::size_t limit);
  /// What set_flag has written; false before.
  result<bool> flag(const std::string& name);
  /// The highest token ever given.
  result<std::uint64_t> highest_token();

  result<nlohmann::json> runs(const domain::runs_query& what);
  /// ec::not_found.
  result<run_row> find(const std::string& run);
  /// One run with its attempts. ec::not_found.
  result<nlohmann::json> show(const std::string& run);
  /// At most `bytes_max` of data; see docs/protocol.md.
  result<nlohmann::json> logs(const domain::logs_query& what, std::size_t bytes_max);
  /// The run's push and its events.
  result<nlohmann::json> why(const std::string& run);
  /// The number of the last event ever written of any run.
  result<std::int64_t> last_event();
  result<news> news_after(std::int64_t event, std::size_t lines_max);
  /// Holds all that is kept of one run, in one snapshot, against the rules of story_check; not
  /// whole when it has more than `lines_max` lines.
  result<judgement> judge_run(const std::string& run, const story_rules& rules,
                              std::size_t lines_max);
  /// The last line by which a salvage says that what was before it is not known; 0: none.
  result<std::int64_t> last_lost_story();
  /// Of the file: a reader takes one that an older ntrace wrote, too.
  std::int64_t schema() const { return schema_; }
  /// In their order, behind `after`.
  result<std::vector<std::string>> run_ids(const std::string& after, std::size_t limit);
  /// Runs by state.
  result<nlohmann::json> counts();

private:
  explicit journal_sqlite(std::unique_ptr<sqlite::connection> db) : db_{std::move(db)} {}
  /// The highest number of all pushes and events.
  result<std::int64_t> last_seq();
  result<committed> apply(const batch& b, std::int64_t now_ms);
  result<std::int64_t> pragma(const char* sql);
  result<void> read_rows(story& out);
  result<judgement> judge(const std::string& run, const story_rules& rules, std::size_t lines_max);
  result<nlohmann::json> refused(const std::string& run);
  result<std::size_t> delete_run(const std::string& run, std::size_t chunks_max, bool& is_gone);
  result<void> delete_ended(const retention& keep, std::int64_t now_ms, retained& out);
  error full(error e);
  result<void> find_earlier(const insert_run& o, committed& out);
  result<std::optional<std::uint64_t>> stored_chunks(const std::string& run, std::uint64_t token);
  result<void> insert_chunk(const std::string& run, std::uint64_t attempt, std::uint64_t token,
                            std::uint64_t seq, domain::stream stream, const std::string& data,
                            std::int64_t now_ms);
  result<void> write_doc(const append_doc& o, std::int64_t now_ms, committed& out);
  result<void> write_outages(const set_outages& o, std::int64_t now_ms, committed& out);
  result<void> write(const operation& op, std::int64_t now_ms, committed& out);

  std::unique_ptr<sqlite::connection> db_;
  std::int64_t last_seq_ = 0, durable_seq_ = 0, bound_bytes_ = 0;
  std::int64_t schema_ = 0;  ///< Of the file.
};

/// A run's id must look like one before it is looked up.
result<void> check_run_id(const std::string& run);

}  // namespace ntrace::journal
