#pragma once
// What is seen from outside of a zone that has just booted, for its proof of clean. Nothing of what
// the zone says of itself is believed. docs/zones.md, "Proof of clean".
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "actors/zone/linux/zone_store.hpp"

namespace ntrace::zone {

/// Inode numbers of a process's mnt, pid, net, ipc, user, uts and cgroup namespaces
/// (namespaces(7)).
using namespace_ids = std::array<std::uint64_t, 7>;
std::optional<namespace_ids> namespaces_of(int pid);

/// What is kept of a generation that ended until nobody lives in it. With its user namespace held,
/// that one's number is not given to another.
struct ended_generation {
  namespace_ids namespaces{};
  unique_fd user;
};

/// What one walk over the processes found, zombies and threads of the kernel's aside.
struct leftovers {
  std::string in_range;  ///< P3: runs with an id of the zone outside of its init's namespaces now.
  std::string stayed;    ///< P4: lives in a namespace of one of `ended`.
};
/// Those of `ended` that nobody lives in any more are dropped. Shared ids tell nothing for P3.
leftovers find_leftovers(const zone_ids& ids, const namespace_ids& live,
                         std::vector<ended_generation>& ended);

/// P10: why the box that `init_pid` lives in is not closed as it must be: its rights, its filter,
/// its ids, its descriptors, its limits and each of its mounts. Empty when it is. `pids`: of
/// limits.
std::string open_box(int init_pid, const zone_ids& ids, std::uint64_t pids);

/// P10's part on limits, of the text of /proc/PID/limits. Pure.
std::string wrong_rlimit(std::string_view limits, std::uint64_t pids);

/// P10's part on mounts, of the text of /proc/PID/mountinfo (proc(5)). Pure.
std::string wrong_mount(std::string_view mountinfo);
/// What is degraded because the zone has the host's own files there, of the same text: "usr",
/// "devices". Pure.
std::vector<std::string> shared_with_host(std::string_view mountinfo);

/// P7: the digest of what stat(2) tells of all entries below `layer`, inode and change time too:
/// cheap, and it changes with whatever is done to a file. ec::io.
result<std::string> fast_seal(const std::string& layer);
/// The digest of what a copy of the layer would have too: names, kinds, modes, owners, contents.
result<std::string> full_seal(const std::string& layer);

/// random(4): another one after each boot of the machine.
std::string machine_boot_id();

}  // namespace ntrace::zone
