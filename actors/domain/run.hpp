#pragma once
// Pushes and runs: the values that the dispatcher, the journal and their readers share.
#include <cstdint>
#include <memory>
#include <string>

#include "actors/domain/states.hpp"
#include "config/clock.hpp"
#include "config/outage.hpp"

namespace ntrace::domain {

/// A valid push.
struct push_request {
  std::string owner, repo, sha;
  std::string key;     ///< Idempotency key; empty: none was given.
  std::string source;  ///< SPEC that overrides the template; empty: the template's.
  std::int64_t priority = 0;
  std::int64_t deadline_ms = 0;  ///< How long after the push its result is of use; 0: always.
  std::string payload;  ///< A forge's own words, as JSON; empty: owner, repo and sha say it all.
};

/// What a run has met of outages since it was pushed or brought back.
struct outage_record {
  std::uint64_t total = 0;  ///< Attempts that ended by one. They count towards no limit.
  std::uint64_t tries = 0;  ///< The last of them without anything else between; 0: it is over.
  outage last;
  milliseconds waited{0};     ///< The waits between those tries, and the time that they took.
  milliseconds wait{0};       ///< From the last one to the next.
  std::int64_t since_ms = 0;  ///< Wall clock at the first, for people.
  std::int64_t at_ms = 0;     ///< And at the last.
  bool is_on() const { return tries != 0; }
};
using outage_record_ptr = std::shared_ptr<const outage_record>;
inline std::uint64_t outages_of(const outage_record_ptr& r) { return r ? r->total : 0; }

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
  outage_record_ptr outages = nullptr;  ///< Null: it met none.
  /// Accepted so far, of those that count towards the limit.
  std::uint64_t attempts_counted() const { return attempts - outages_of(outages); }
};

/// What a push is answered with.
struct receipt {
  std::string run;
  run_state state = run_state::queued;
  bool duplicate = false;
  std::uint64_t journal_seq = 0;
};

}  // namespace ntrace::domain
