#pragma once
// The checker: holds a history, fact by fact, against the safety invariants S1 to S20 and the
// liveness rules L1 to L5 of docs/simulator.md. It knows no part that it judges: only what those
// parts did to the disk, to zones and to people.
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "actors/journal/journal_types.hpp"
#include "config/clock.hpp"

namespace ntrace::test {

enum class fact_kind {
  sent,           ///< A client sent the push of `text` (its key).
  acked,          ///< A push was acknowledged: `run`, `text` its key, `who` its commit if known.
  committed,      ///< `op` is durable.
  deleted,        ///< The journal keeps `run` no longer.
  recovered,      ///< The dispatcher came up; `runs` is what it goes on with.
  renewed,        ///< The dispatcher heard that `token` is alive.
  lease_expired,  ///< The dispatcher judged so of `token`.
  verdict_early,  ///< A verdict of `who` came before a chunk that it names.
  lease_begun,    ///< The runner `who` got the answer to its accept of `token`.
  zone_begun,     ///< Rollback of `zone` for `token` began.
  zone_proved,    ///< It came up with a proof of clean.
  zone_used,      ///< A step of `token` after the rollback began in `zone`.
  zone_ended,     ///< Nothing runs in `zone` any more.
  zone_expired,   ///< `zone` ended itself, for the lease of `token` was over.
  attempt_over,   ///< The runner `who` works for `token` no more.
  outage_met,     ///< The attempt of `token` could not reach what it needs: `text`.
  outages_kept,   ///< The journal has n[0] attempts of `run` on record that count towards no limit.
  told_stale,     ///< The runner `who` learned that `token` is stale.
  cancel_acked,   ///< The wish to cancel `run` was acknowledged.
  drain_acked,    ///< The wish to drain was acknowledged.
  resume_sent,    ///< A client asked to resume.
  doc_acked,      ///< A consumer's document was acknowledged: `text` its id.
  workers,        ///< Of runner `who`: `n` = {enrolled, free, busy, repairing, busy with a reason}.
  held_bytes,     ///< `text` holds n[0] of at most n[1].
  child_restarted,  ///< By its supervisor: `n` = {ms it was down, most it may be}.
  crashed,          ///< The process `who` died.
  quiet,            ///< Faults ended at this moment; liveness rules count from here.
  /// End of the history: `n` = {outbox entries, links down, workers busy, repairing, requests that
  /// nobody answers, pushes without an acknowledgement}.
  finished,
  asserted,  ///< An assertion failed; `text` says which.
};

struct fact {
  fact_kind kind{};
  time_point at{};
  std::string who, run, zone, text;
  std::uint64_t token = 0;
  std::vector<std::uint64_t> n;
  journal::operation op;
  std::vector<journal::run_row> runs;
};
/// One line, the same on every compiler.
std::string to_line(const fact& f);

struct violation {
  std::string invariant;  ///< "S1" …
  std::string what;
};

struct check_options {
  milliseconds lease{30'000};
  milliseconds kill_deadline{30'000};
  std::uint64_t attempts = 5;
  milliseconds outage_patience{86'400'000};
  bool chunks_name_tokens = true;  ///< As "<token>:…", which the simulator's attempts write.
};

class invariant_checker {
public:
  explicit invariant_checker(check_options options) : options_{options} {}
  void on(const fact& f);
  const std::vector<violation>& violations() const { return violations_; }
  /// How often each invariant's precondition was met: what was checked, not only stated.
  const std::map<std::string, std::uint64_t>& met() const { return met_; }
  /// "from>to" of runs, and how often.
  const std::map<std::string, std::uint64_t>& transitions() const { return transitions_; }

private:
  struct run_state {
    journal::run_row row;
    std::string key, last_event;
    std::optional<domain::verdict> verdict;
    std::optional<domain::verdict> ended_with;  ///< The verdict of its last attempt of this epoch.
    std::uint64_t chunks = 0;                   ///< Stored of the live attempt.
    std::uint64_t accepted = 0;                 ///< Attempts of this epoch.
    std::uint64_t last_accepted = 0;            ///< Their last token.
    std::uint64_t outages = 0;                  ///< Of this epoch's attempts, those that met one.
    std::optional<time_point> outage_since;     ///< Of the last attempts, when each met one.
    bool is_cancelled = false;                  ///< Acknowledged.
  };
  struct zone_state {
    std::uint64_t token = 0;
    bool is_proved = false;
  };
  void fail(const char* invariant, std::string what);
  void check(const char* invariant, bool holds, const std::string& what);
  void on_deleted(const std::string& run);
  void on_operation(const fact& f);
  void on_set_run(const fact& f, const journal::set_run& op);
  void on_revive(const fact& f, const journal::revive& op);
  void on_end_attempt(const fact& f, const journal::end_attempt& op);
  void check_quarantine(const fact& f, const run_state& r, const journal::set_run& op);
  void on_zone(const fact& f);
  void on_attempt_over(std::uint64_t token);

  check_options options_;
  std::map<std::string, run_state> runs_;
  std::map<std::string, std::string> run_of_key_;
  std::map<std::string, zone_state> zones_;
  std::map<std::uint64_t, std::string> run_of_token_;
  std::map<std::uint64_t, time_point> alive_at_;  ///< Live token → last sign of life.
  std::map<std::uint64_t, time_point> heard_at_;  ///< Token → last time that its runner was heard.
  std::map<std::uint64_t, time_point> stale_at_;  ///< Token → when its runner knew.
  std::set<std::uint64_t> begun_;                 ///< Leases that a runner knows it has.
  struct work {
    std::string run, runner;
  };
  std::map<std::uint64_t, work> at_work_;                ///< Attempts that run somewhere, by token.
  std::map<std::uint64_t, std::string> lost_to_outage_;  ///< Token → what its runner said.
  std::set<std::uint64_t> expired_;  ///< Tokens whose lease was over, as their zone judged.
  std::set<std::uint64_t> over_;     ///< Attempts that work no more, though a zone may still boot.
  std::map<std::uint64_t, std::uint64_t> chunks_;  ///< Token → highest stored.
  std::set<std::string> acked_, docs_, deleted_;
  std::uint64_t last_token_ = 0;
  bool is_drained_ = false;
  std::vector<violation> violations_;
  std::map<std::string, std::uint64_t> met_, transitions_;
};

}  // namespace ntrace::test
