#pragma once
// Boots one zone: namespaces, mounts, and the exec of zone init. Called by the privileged helper,
// which has one thread. docs/zones.md.
#include <cstdint>
#include <string>
#include <vector>

#include "actors/zone/linux/cgroup.hpp"
#include "actors/zone/linux/mounts.hpp"
#include "actors/zone/linux/zone_store.hpp"

namespace ntrace::zone {

/// The bounding set of a zone's init: CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SETPCAP.
inline constexpr std::uint64_t init_capabilities = 0x1e0;

struct boot_plan {
  zone_store::root_plan root;
  bool is_volatile = true;    ///< Skip fsync; such an upper is never mounted again.
  bool with_network = false;  ///< Make a listener for the proxy.
  zone_ids ids;
  const zone_cgroup* cgroup = nullptr;      ///< Null: no limits (a degraded machine).
  cgroup_limits limits{};                   ///< As `cgroup` has them.
  int init_image = -1;                      ///< Sealed memfd of zone init.
  const std::string* filter = nullptr;      ///< Of system calls: make_syscall_filter().
  std::uint64_t tmp_bytes = 0;              ///< Size of each tmpfs.
  made_mounts mounts{};                     ///< Of `root` and the host.
  std::vector<limits_view> limits_views{};  ///< Of `cgroup`.
  std::string cpus{};  ///< A list of what it may run on; empty: all that we may.
};

struct booted {
  int pid = -1;
  unique_fd pidfd;
  unique_fd user;     ///< Its user namespace.
  unique_fd control;  ///< The runner's end; EOF at either end ends the zone.
};

/// Starts the zone's init. That it came up is told on `control` (init_op::ready, or refused with
/// the reason in cwd). ec::zone_failed or ec::zone_unsupported name the step and errno.
result<booted> boot_zone(const boot_plan& plan);

/// The sealed memfd that holds the static zone init.
result<unique_fd> make_init_image();

/// The command line of zone init, without its name.
std::vector<std::string> init_words(const boot_plan& plan);

/// How many sockets a zone may have: what waits in the queues of so many is at most as much as its
/// memory (socket(7)).
std::uint64_t sockets_of(std::uint64_t memory_bytes);

/// The one that `pid` lives in.
result<unique_fd> open_user_namespace(int pid);

/// A user namespace that nobody lives in, with the ids of the zone and made by its root.
result<unique_fd> make_user_namespace(const zone_ids& ids);

}  // namespace ntrace::zone
