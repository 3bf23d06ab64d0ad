#include "tests/sim/fault_plan.hpp"

#include <algorithm>
#include <array>

namespace ntrace::sim {

std::string_view to_string(fault_kind k) {
  static constexpr std::array<std::string_view, 23> names{
      "crash_dispatcher", "crash_runner", "break_link",     "half_open",     "partition",
      "disk_full",        "sync_error",   "slow_disk",      "kill_zone",     "kill_attempt",
      "kill_actor",       "kill_session", "stop_sshd",      "freeze_sshd",   "refuse_key",
      "drain_tunnel",     "outbox_full",  "wall_jump",      "crowd_journal", "forge_away",
      "registry_away",    "stop_runner",  "stop_dispatcher"};
  return names[static_cast<std::size_t>(k)];
}

std::vector<fault> draw_faults(random_source& random, milliseconds phase, unsigned runners) {
  std::vector<fault> out;
  const auto length = static_cast<std::uint64_t>(phase.count());
  for (int k = 0; k <= static_cast<int>(fault_kind::last); ++k) {
    if (random.below(2) == 0) continue;
    for (auto n = 1 + random.below(6); n > 0; --n)
      out.push_back({0, milliseconds{random.below(length)}, static_cast<fault_kind>(k),
                     static_cast<unsigned>(random.below(runners)),
                     milliseconds{10 + random.below(random.below(3) == 0 ? 15'000 : 1'500)}});
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const fault& a, const fault& b) { return a.at < b.at; });
  for (unsigned i = 0; i < out.size(); ++i) out[i].number = i;
  return out;
}

}  // namespace ntrace::sim
