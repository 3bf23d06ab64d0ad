#include "tests/sim/replay.hpp"

#include <algorithm>
#include <cstdlib>
#include <map>

namespace ntrace::sim {
namespace {

const std::map<std::string, fault_kind, std::less<>>& likes() {
  static const std::map<std::string, fault_kind, std::less<>> all{
      {"zone_init_kill", fault_kind::kill_zone},
      {"zone_kill", fault_kind::kill_zone},
      {"helper_kill", fault_kind::kill_zone},
      {"actor_kill", fault_kind::kill_actor},
      {"actor_throw", fault_kind::kill_actor},
      {"tunnel_kill", fault_kind::kill_session},
      {"ssh_session_kill", fault_kind::kill_session},
      {"sshd_kill", fault_kind::stop_sshd},
      {"sshd_stop", fault_kind::freeze_sshd},
      {"link_down", fault_kind::partition},
      {"link_drop", fault_kind::break_link},
      {"runner_kill", fault_kind::crash_runner},
      {"runner_oom", fault_kind::crash_runner},
      {"runner_stop", fault_kind::stop_runner},
      {"lease_outlived", fault_kind::stop_runner},
      {"outage", fault_kind::forge_away},
      {"dispatcher_stop", fault_kind::stop_dispatcher},
      {"dispatcher_kill", fault_kind::crash_dispatcher},
      {"disk_full", fault_kind::disk_full},
      {"disk_readonly", fault_kind::disk_full},
      {"disk_failure", fault_kind::sync_error},
      {"dispatcher_oom", fault_kind::crash_dispatcher},
      {"clock_jump", fault_kind::wall_jump},
  };
  return all;
}

/// "runner2" is the second: 1. The dispatcher's faults have no target.
unsigned target_of(const std::string& name) {
  const auto digit = name.find_first_of("0123456789");
  if (digit == std::string::npos) return 0;
  return static_cast<unsigned>(std::max(std::atoi(name.c_str() + digit) - 1, 0));
}

}  // namespace

std::vector<fault> plan_of(const nlohmann::json& figures, milliseconds phase) {
  std::vector<fault> out;
  const auto lasted = std::max<std::int64_t>(figures.value("lasted_ms", std::int64_t{0}), 1);
  for (const auto& one : figures.value("faults", nlohmann::json::array())) {
    const auto like = likes().find(one.value("kind", ""));
    if (like == likes().end()) continue;
    const auto at = std::clamp<std::int64_t>(one.value("at_ms", std::int64_t{0}), 0, lasted);
    out.push_back({0, milliseconds{at * phase.count() / lasted}, like->second,
                   target_of(one.value("target", "")),
                   milliseconds{std::clamp<std::int64_t>(one.value("lasted_ms", std::int64_t{0}),
                                                         10, 15'000)}});
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const fault& a, const fault& b) { return a.at < b.at; });
  for (unsigned i = 0; i < out.size(); ++i) out[i].number = i;
  return out;
}

}  // namespace ntrace::sim
