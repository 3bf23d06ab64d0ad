#pragma once
// Control groups of one zone: membership, kill and emptiness by the v2 hierarchy (alone, or mounted
// as `unified` beside v1), limits wherever each controller lives. Linux: cgroups(7).
#include <map>
#include <string>
#include <vector>

#include "actors/zone/linux/zone_sights.hpp"
#include "config/file.hpp"
#include "config/result.hpp"

namespace ntrace::zone {

/// Where this machine keeps its hierarchies, read from the mount table.
struct cgroup_layout {
  std::string v2;                         ///< Mount point of the v2 hierarchy; empty: none.
  std::map<std::string, std::string> v1;  ///< Controller → mount point.
  std::vector<std::string> all;           ///< Every mount point, also of what ntrace leaves alone.
  bool in_v2(const std::string& controller) const;
};

/// Parses /proc/self/mountinfo's text. Pure.
cgroup_layout parse_cgroup_layout(std::string_view mountinfo);

struct cgroup_limits {
  std::uint64_t memory_bytes = 0;
  std::uint64_t pids = 0;
  std::uint64_t cpu_percent = 0;
};

/// The groups `ntrace` that those of the zones are below. Several helpers share them: each holds a
/// shared flock(2) on them while it lives, and only who gets the exclusive one removes them.
class cgroup_parents {
public:
  /// Makes what is missing: where `in_all`, in every hierarchy, as an OCI runtime will.
  static result<cgroup_parents> hold(const cgroup_layout& layout, bool in_all);
  cgroup_parents(cgroup_parents&&) = default;
  cgroup_parents& operator=(cgroup_parents&&) = default;
  /// Removes those that nobody else holds.
  ~cgroup_parents();

private:
  cgroup_parents() = default;
  std::map<std::string, unique_fd> held_;  ///< By path.
};

/// The groups `ntrace/<name>` in each hierarchy that is used.
class zone_cgroup {
public:
  /// Makes the groups, writes the limits and reads them back; ec::zone_failed when one does not
  /// hold. The parents must be held, and groups of that name must not exist.
  static result<zone_cgroup> make(const cgroup_layout& layout, const std::string& name,
                                  const cgroup_limits& limits);
  /// Kills and removes every group `ntrace/<prefix>…` that an earlier life left; bounded waiting.
  static result<void> reap(const cgroup_layout& layout, const std::string& prefix);
  /// True when no group of that exact name exists, in any hierarchy.
  static bool is_absent(const cgroup_layout& layout, const std::string& name);
  /// The group below the root of each hierarchy.
  static std::string path_of(const std::string& name);

  /// Takes over the groups of the same name that an OCI runtime made in other hierarchies.
  void adopt_others(const cgroup_layout& layout);
  /// P9: why `pid` is not held by these groups; empty when it is in each.
  std::string escaped(const cgroup_layout& layout, int pid) const;

  /// The v2 group's folder, for CLONE_INTO_CGROUP and perf; empty without a v2 hierarchy.
  const std::string& v2_path() const { return v2_path_; }
  /// The folder where memory is limited; empty when it is not.
  const std::string& memory_path() const { return memory_path_; }
  /// What a zone may see of its groups, to be mounted read-only.
  std::vector<limits_view> views(const cgroup_layout& layout) const;
  /// P9: a limit that does not read as it was written; empty when all do.
  std::string changed_limit() const;
  /// The files by which a process joins the v1 groups: it writes "0" into each, itself. The kernel
  /// then need not stop all others for it, which costs a grace period when somebody else writes.
  result<std::vector<unique_fd>> open_joins() const;
  /// SIGKILL to all members. The caller waits until remove() succeeds.
  void kill() const;
  /// Removes the groups; false while the kernel says EBUSY, for they have members that are not
  /// zombies. Listing the members instead would hold a v1 group for another second.
  bool remove() const;

private:
  std::string name_;
  std::string v2_path_;
  std::string memory_path_;
  std::vector<std::string> paths_;
  std::vector<std::pair<std::string, std::string>> limits_;  ///< Files, and what they read.
};

/// How often the out-of-memory killer struck in the group at `memory_path` (v1 or v2).
std::uint64_t oom_kills(const std::string& memory_path);

}  // namespace ntrace::zone
