#pragma once
// Pushes, runs, attempts: the values that the dispatcher, the journal and their readers share.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "config/result.hpp"

namespace ntrace::dispatcher {

/// queued → leased → running → done | failed | quarantined | cancelled; back to queued when an
/// attempt ends without a verdict.
enum class run_state { queued, leased, running, done, failed, quarantined, cancelled };
std::string_view to_string(run_state s);
run_state run_state_from(std::string_view word);
inline bool is_terminal(run_state s) { return s >= run_state::done; }

/// How an attempt ended. Only infrastructure is retried.
enum class verdict { passed, script_failed, timed_out, infrastructure };
std::string_view to_string(verdict v);
std::optional<verdict> verdict_from(std::string_view word);

/// A valid push.
struct push_request {
  std::string owner, repo, sha;
  std::string key;     ///< Idempotency key; empty: none was given.
  std::string source;  ///< SPEC that overrides the template; empty: the template's.
  std::int64_t priority = 0;
  std::int64_t deadline_ms = 0;  ///< How long after the push its result is of use; 0: always.
  std::string payload;  ///< A forge's own words, as JSON; empty: owner, repo and sha say it all.
};

/// A run as the journal keeps it.
struct run_row {
  std::string id;
  std::string owner, repo, sha, source;
  std::int64_t priority = 0;
  run_state state = run_state::queued;
  std::uint64_t attempts = 0;  ///< Accepted so far.
  std::uint64_t token = 0;     ///< Of the live or last attempt.
  std::int64_t created_ms = 0;
  std::int64_t deadline_ms = 0;     ///< After the push; 0: none.
  std::uint64_t last_seq = 0;       ///< Highest chunk of the live attempt.
  std::uint64_t expired_token = 0;  ///< Of a queued run: its last attempt, if that expired.
  bool is_consumers = false;        ///< The live attempt is one of a consumer of the old protocol.
};

/// What a push is answered with.
struct receipt {
  std::string run;
  run_state state = run_state::queued;
  bool duplicate = false;
  std::uint64_t journal_seq = 0;
};
/// As JSON.
std::string to_text(const receipt& r);

}  // namespace ntrace::dispatcher
