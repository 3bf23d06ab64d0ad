#pragma once
// The enrolled workers of a runner and what each is doing. Pure.
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "config/backoff.hpp"
#include "config/result.hpp"

namespace ntrace::runner {

enum class worker_state { free, busy, repairing };
std::string_view to_string(worker_state s);

struct worker {
  std::string uuid;
  worker_state state = worker_state::free;
  std::string run;             ///< While busy.
  std::uint64_t restarts = 0;  ///< Repairs so far.
  std::int64_t enrolled_ms = 0;
  nlohmann::json last_clean;  ///< The last proof of clean; null before the first.
  time_point retry_at{};      ///< While repairing.
  time_point broken_at{};     ///< While repairing: when it last worked.
  unsigned failures = 0;      ///< In a row.
  bool is_leaving = false;    ///< Expelled while busy.
};

class zone_pool_fsm {
public:
  explicit zone_pool_fsm(backoff_policy repair, std::uint64_t seed)
      : repair_{repair}, random_{seed} {}

  /// Adds a worker; the same answer again for one that is enrolled. True when it is new.
  bool on_enroll(const std::string& uuid, std::int64_t at_ms);
  /// Forgets a free worker at once, a busy one when its attempt ended. ec::not_enrolled.
  result<void> on_expel(const std::string& uuid);
  /// A free worker for the run, or nothing.
  std::optional<std::string> on_acquire(const std::string& run);
  /// The attempt on it ended; `broken` sends it to repair with growing waits.
  void on_release(time_point now, const std::string& uuid, bool broken);
  void on_proved(const std::string& uuid, nlohmann::json receipt);
  /// Workers whose repair wait is over become free again, to be tried.
  void on_tick(time_point now);
  std::optional<time_point> next_wake() const;

  std::size_t count(worker_state s) const;
  std::size_t free() const { return count(worker_state::free); }
  std::size_t size() const { return workers_.size(); }
  const worker* find(const std::string& uuid) const;
  std::vector<worker> list() const;
  /// "3 enrolled, 2 busy, 1 repairing for 12 s", for people; the longest of those.
  std::string text(time_point now) const;

private:
  backoff_policy repair_;
  random_source random_;
  std::map<std::string, worker> workers_;
};

nlohmann::json to_json(const worker& w);

}  // namespace ntrace::runner
