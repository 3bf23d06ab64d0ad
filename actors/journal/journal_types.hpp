#pragma once
// What the journal can be asked to write. A batch is written whole or not at all.
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "actors/domain/document.hpp"
#include "actors/domain/run.hpp"
#include "actors/domain/story.hpp"
#include "config/result.hpp"

namespace ntrace::journal {

using domain::push_request;
using domain::run_row;
using domain::run_state;
using domain::verdict;

/// A new run, unless its key is known: then nothing is written and the answer names the old one.
struct insert_run {
  run_row run;
  std::string key;          ///< Empty where none was given.
  std::string payload;      ///< As in push_request.
  bool has_source = false;  ///< The push named its source; else it is the template's.
};
/// The run's state, attempts and token.
struct set_run {
  std::string run;
  run_state state = run_state::queued;
  std::uint64_t attempts = 0;
  std::uint64_t token = 0;
  std::optional<domain::verdict> verdict;  ///< Of a run that has ended by one.
  std::string reason;
  bool drops_deadline = false;
};
struct put_attempt {
  std::string run;
  std::uint64_t number = 0, token = 0;
  std::string runner;
  bool wants_payload = false;  ///< The answer has what was pushed.
};
struct end_attempt {
  std::string run;
  std::uint64_t token = 0;
  domain::verdict verdict = domain::verdict::infrastructure;
  std::string reason;
  domain::document receipt;
  bool is_expired = false;  ///< Its lease ran out: it may have ended well, unheard.
};
/// Keeps the run's record of outages; null deletes it. The journal sets the times of the wall
/// clock.
struct set_outages {
  std::string run;
  domain::outage_record_ptr record;
};
/// Gives the lease back to an attempt that expired, unless the run has gone on since.
struct revive {
  std::string run;
  std::uint64_t token = 0;
};
/// One piece of a stream; stored only while `token` is the run's live one, and only right after the
/// attempt's last stored piece: writes are pipelined, and one before it may have failed
/// (docs/protocol.md, "Runner's calls").
struct append_chunk {
  std::string run;
  std::uint64_t attempt = 0, token = 0, seq = 0;
  domain::stream stream = domain::stream::out;
  std::string data;
};
/// The attempt's run_id of a consumer of the old protocol. Stale where another attempt has it.
struct bind_run_id {
  std::uint64_t token = 0;
  std::string run_id;
};
/// A document of such a consumer: the next chunks of its attempt, stored only while `token` is the
/// run's live one. One whose id is known is not stored again.
struct append_doc {
  std::string run;
  std::uint64_t attempt = 0, token = 0;
  std::string doc;
  std::optional<domain::stream> stream;  ///< Nothing: it has no pieces.
  std::vector<std::string> pieces;
};
/// A line of the run's story, which `why` tells, as it is stored: domain::story.
struct event {
  std::string run;
  std::uint64_t attempt = 0, token = 0;
  std::string actor, what;
  nlohmann::json detail;
};

inline event event_of(std::string run, std::uint64_t attempt, std::uint64_t token,
                      const domain::story::line& line) {
  auto stored = to_stored(line);
  return {
      std::move(run),          attempt, token, std::string{stored.actor}, std::string{stored.what},
      std::move(stored.detail)};
}

/// Something that outlives a restart.
struct set_flag {
  std::string name;
  bool value = false;
};
inline constexpr const char* draining_flag = "draining";

using operation = std::variant<insert_run, set_run, put_attempt, end_attempt, set_outages, revive,
                               append_chunk, bind_run_id, append_doc, event, set_flag>;
using batch = std::vector<operation>;

/// A member of a push that is not as in an earlier one with the same key.
struct push_difference {
  std::string member, then, now;
};

/// What a committed batch gave.
struct committed {
  std::uint64_t seq = 0;  ///< Number of the batch's last push or event: one count for both.
  std::optional<run_row> duplicate_of;       ///< For an insert_run whose key was known.
  std::vector<push_difference> differences;  ///< From that one: then the key is not this push's.
  /// An append_chunk or revive came too late for its token, or a set_run for a run that is no
  /// longer kept; nothing was written.
  bool is_stale = false;
  std::uint64_t last_seq = 0;  ///< Of a revive or append_doc: the attempt's highest stored chunk.
  bool is_gap = false;     ///< An append_chunk did not follow the last stored; nothing was written.
  bool is_known = false;   ///< An append_doc's id is stored already; nothing was written.
  std::string payload;     ///< For a put_attempt that wants it.
  std::int64_t at_ms = 0;  ///< The wall clock, where the batch set outages.

  /// Nothing of the batch was written.
  bool is_void() const { return duplicate_of || is_stale || is_gap || is_known; }
};

}  // namespace ntrace::journal
