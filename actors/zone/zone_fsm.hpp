#pragma once
// The life of one zone as its runner sees it: who has it, when it is proved without anybody's run,
// and how one that broke comes back. docs/zones.md, "Repair". Pure.
#include <optional>
#include <string>
#include <string_view>

#include "config/backoff.hpp"

namespace ntrace::zone {

enum class zone_state {
  proving,    ///< Nothing is known against it, but it has to be booted and proved first.
  free,       ///< For an attempt.
  busy,       ///< An attempt has it.
  repairing,  ///< It broke: it waits, or is booted and proved.
  parked,     ///< It broke often in a row: a person should look. It is still tried, at long waits.
};
std::string_view to_string(zone_state s);

/// Failures in a row, of attempts and of repairs, that park a zone: docs/zones.md, "Repair".
inline constexpr unsigned repair_max = 8;

class zone_fsm {
public:
  /// A new one is proved before anybody uses it.
  explicit zone_fsm(backoff_policy repair) : repair_{repair} {}

  /// free → busy; false in every other state.
  bool on_acquire();
  /// The attempt is over and the zone emptied. Ignored unless it was busy.
  void on_release(time_point now, bool is_broken, random_source& random);
  /// True when the zone is to be booted and proved now, which on_proved() answers.
  bool on_tick(time_point now);
  /// `problem` is empty when it was proved clean.
  void on_proved(time_point now, const std::string& problem, random_source& random);
  /// Another zone of the machine broke: a free one is proved before it is used again.
  void on_suspicion(time_point now);
  /// A person asks for it: what waits is tried now.
  void on_retry(time_point now);

  zone_state state() const;
  /// When on_tick() has something to do.
  std::optional<time_point> wake() const;
  /// What the last proof said; empty when it was good.
  const std::string& problem() const { return problem_; }
  unsigned failures() const { return failures_; }
  /// When the first failure in this row was; only after one.
  time_point broken_at() const { return broken_at_; }
  /// How often it broke so far.
  std::uint64_t breaks() const { return breaks_; }

private:
  enum class phase { waiting, trying, free, busy };
  void on_failure(time_point now, random_source& random);

  backoff_policy repair_;
  phase phase_ = phase::waiting;
  time_point retry_at_{}, broken_at_{};
  unsigned failures_ = 0;
  std::uint64_t breaks_ = 0;
  std::string problem_;
};

}  // namespace ntrace::zone
