#pragma once
// What one process of a zone may have of the kernel: one table for zone init, which sets it, and
// for the proof of clean (P10). What all processes of a zone may have together is docs/zones.md,
// "Who is charged".
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

namespace ntrace::zone {

struct zone_rlimit {
  int resource;           ///< setrlimit(2).
  std::string_view name;  ///< As /proc/PID/limits has it: proc_pid_limits(5).
  std::uint64_t most;
};

/// Hard and soft alike. The number of processes is the zone's own, `zone_pids`.
inline constexpr std::array zone_rlimits{
    zone_rlimit{RLIMIT_NOFILE, "Max open files", 4096},
    // A byte is no file, either, but with it the kernel starts no program of the host to take the
    // core, where `kernel.core_pattern` names one: core(5).
    zone_rlimit{RLIMIT_CORE, "Max core file size", 1},
    zone_rlimit{RLIMIT_MEMLOCK, "Max locked memory", 64u << 10},
    zone_rlimit{RLIMIT_SIGPENDING, "Max pending signals", 4096},  // timers of a process, too
    zone_rlimit{RLIMIT_MSGQUEUE, "Max msgqueue size", 819'200},   // the kernel's default
    zone_rlimit{RLIMIT_NICE, "Max nice priority", 0},
    zone_rlimit{RLIMIT_RTPRIO, "Max realtime priority", 0}};
inline constexpr std::string_view processes_rlimit = "Max processes";

/// Lowers a limit of this process to `most`; one that is lower already stays. False with errno set.
inline bool lower_rlimit(int resource, std::uint64_t most) {
  rlimit now{};
  if (::getrlimit(resource, &now) != 0) return false;
  const auto wanted = std::min<rlim_t>(now.rlim_max, most);
  now = {wanted, wanted};
  return ::setrlimit(resource, &now) == 0;
}

}  // namespace ntrace::zone
