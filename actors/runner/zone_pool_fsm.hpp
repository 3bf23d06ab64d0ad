#pragma once
// The enrolled workers of a runner and what each is doing. Pure.
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "actors/domain/document.hpp"
#include "actors/zone/zone_fsm.hpp"
#include "config/result.hpp"

namespace ntrace::runner {

using zone::zone_state;

struct worker {
  std::string uuid;
  zone::zone_fsm zone{backoff_policy{}};
  std::string run{};  ///< While busy.
  std::int64_t enrolled_ms = 0;
  domain::document last_clean{};  ///< The last proof of clean; empty before the first.
  bool is_leaving = false;        ///< Expelled while busy.
};

class zone_pool_fsm {
public:
  explicit zone_pool_fsm(backoff_policy repair, std::uint64_t seed)
      : repair_{repair}, random_{seed} {}

  /// Adds a worker, to be proved first; one that is enrolled and waits for its repair is tried now.
  void on_enroll(time_point now, const std::string& uuid, std::int64_t at_ms);
  /// Forgets an idle worker at once, a busy one when its attempt ended. ec::not_enrolled.
  result<void> on_expel(const std::string& uuid);
  /// A free worker for the run, or nothing.
  std::optional<std::string> on_acquire(const std::string& run);
  /// The attempt on it ended. `broken` sends it to repair, and the free ones are proved before they
  /// are used again: what broke it may be the machine's.
  void on_release(time_point now, const std::string& uuid, bool broken);
  /// An attempt's proof of clean.
  void on_receipt(const std::string& uuid, domain::document receipt);
  /// The workers whose zones are to be booted and proved now, each answered by on_proved().
  std::vector<std::string> on_tick(time_point now);
  /// `problem` is empty when the zone was proved clean.
  void on_proved(time_point now, const std::string& uuid, const std::string& problem);
  std::optional<time_point> next_wake() const;

  std::size_t count(zone_state s) const;
  std::size_t free() const { return count(zone_state::free); }
  std::size_t size() const { return workers_.size(); }
  const worker* find(const std::string& uuid) const;
  std::vector<worker> list() const;
  /// "3 enrolled, 2 busy, 1 repairing for 12 s: …", for people; the longest of those, and why.
  std::string text(time_point now) const;

private:
  backoff_policy repair_;
  random_source random_;
  std::map<std::string, worker> workers_;
};

}  // namespace ntrace::runner
