#pragma once
// What goes wrong in one simulated run, drawn from its seed before it begins, so that a violation
// can be shrunk by leaving faults out.
#include <string>
#include <vector>

#include "config/clock.hpp"
#include "config/random.hpp"

namespace ntrace::sim {

enum class fault_kind {
  crash_dispatcher,
  crash_runner,
  break_link,
  half_open,
  partition,
  disk_full,
  sync_error,
  slow_disk,
  kill_zone,
  kill_attempt,
  kill_actor,
  kill_session,
  stop_sshd,
  freeze_sshd,
  refuse_key,
  drain_tunnel,
  outbox_full,
  wall_jump,
  crowd_journal,
  forge_away,
  registry_away,
  stop_runner,
  stop_dispatcher,
  last = stop_dispatcher
};
std::string_view to_string(fault_kind k);

struct fault {
  unsigned number = 0;  ///< In its plan; stays when others are left out.
  milliseconds at{};
  fault_kind kind{};
  unsigned target = 0;  ///< Which runner.
  milliseconds lasts{};
};

/// Swarm testing: which kinds there are, and how many of each, differs from run to run.
std::vector<fault> draw_faults(random_source& random, milliseconds phase, unsigned runners);

}  // namespace ntrace::sim
