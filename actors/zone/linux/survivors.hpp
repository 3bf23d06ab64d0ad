#pragma once
// Processes that survived SIGKILL, for the people who look for what holds them.
#include <string>

namespace ntrace::zone {

/// "4711 (dd) in an uninterruptible wait at percpu_rwsem_wait, started 12 s ago": up to three
/// processes of the cgroup `ntrace/<name>`, or the process `init` when it has none that is alive.
/// It reads /proc: proc_pid_stat(5).  Empty when all are gone.
std::string survivors(const std::string& name, int init);

}  // namespace ntrace::zone
