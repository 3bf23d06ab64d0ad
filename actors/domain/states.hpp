#pragma once
// The words that all features share: states of a run, ends of an attempt, streams of its output.
#include <cstdint>
#include <optional>
#include <string_view>

namespace ntrace::domain {

/// queued → leased → running → done | failed | quarantined | cancelled; back to queued when an
/// attempt ends without a verdict.
enum class run_state : std::uint8_t {
  queued,
  leased,
  running,
  done,
  failed,
  quarantined,
  cancelled
};
std::string_view to_string(run_state s);
/// An unknown word is quarantined: such a run is never run again by itself.
run_state run_state_from(std::string_view word);
inline bool is_terminal(run_state s) { return s >= run_state::done; }

/// How an attempt ended. Only infrastructure is retried. source_failed: what was asked for is not
/// there, or nobody may read it.
enum class verdict : std::uint8_t {
  passed,
  script_failed,
  timed_out,
  infrastructure,
  source_failed
};
std::string_view to_string(verdict v);
std::optional<verdict> verdict_from(std::string_view word);
/// Its word; empty without one.
std::string_view word_of(const std::optional<verdict>& v);

/// What brought an attempt's end about.
enum class end_cause : std::uint8_t {
  verdict,        ///< Who worked on it said how it ended.
  lease_expired,  ///< Nobody was heard of it for a whole lease.
  peer_left,      ///< The connection that a consumer's lease is bound to has ended.
  cancelled,      ///< By request.
  deadline        ///< The run's own deadline passed.
};

/// What an attempt writes, chunk by chunk.
enum class stream : std::uint8_t { out, err, events, result };
/// "stdout", "stderr", "events", "result".
std::string_view to_string(stream s);
std::optional<stream> stream_from(std::string_view word);
inline constexpr std::size_t stream_count = 4;

}  // namespace ntrace::domain
