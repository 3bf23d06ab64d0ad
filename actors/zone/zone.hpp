#pragma once
// One worker zone as its users see it. Every backend gives the same meaning, which is written down
// in tests/integration/zone_conformance_test.cpp and zone_snapshots_test.cpp; all calls block, so
// they are made on a thread of their own, never on CAF's shared workers.
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "actors/zone/collected.hpp"
#include "actors/zone/zone_lease.hpp"
#include "actors/zone/zone_types.hpp"
#include "config/cancellation.hpp"
#include "config/result.hpp"

namespace ntrace::zone {

/// Takes pieces of output as they come; the stream is "stdout" or "stderr".
using output_sink = std::function<void(std::string_view stream, std::string_view data)>;

struct boot_spec {
  zone_limits limits;
  bool with_network = false;  ///< Make the proxy's listener.
  bool fresh = true;          ///< Roll back to the snapshot first; attempts always do.
  milliseconds deadline{5000};
  /// When it is over, everything in the zone is dead: the zone itself sees to that, also while this
  /// process, its helper and init are stopped. ec::stale_lease from then on, and exec_end says so.
  /// Null: nobody's lease (`zone shell`, `profile`).
  std::shared_ptr<const zone_lease> lease{};
};

struct output_limits {
  std::uint64_t kept_bytes = 8u << 20;   ///< Of each stream; what follows is dropped and counted.
  std::uint64_t hard_bytes = 64u << 20;  ///< Of both; then the exec is ended.
};

class zone {
public:
  virtual ~zone() = default;
  virtual const std::string& uuid() const = 0;

  /// Ends what runs, rolls back, boots, and proves the zone clean. ec::zone_dirty names the check
  /// that failed; ec::zone_failed the step.
  virtual result<clean_receipt> boot(const boot_spec& spec) = 0;
  /// Runs one program to its end; whatever it leaves running is killed then. `stdin_fd` -1 is
  /// /dev/null; any other is passed on to the program by a pipe, and read further than the program
  /// may have come. Fails only when the program could not be started at all.
  virtual result<exec_end> exec(const exec_spec& spec, const output_limits& limits,
                                const output_sink& sink, const cancellation* stop,
                                int stdin_fd = -1) = 0;
  /// Unpacks the bundle read from `bundle_fd` below `folder`, as the job's user.
  virtual result<void> unpack(const std::string& folder, int bundle_fd, milliseconds deadline,
                              const cancellation* stop) = 0;
  /// The regular files `folder`/`prefix`*, within collect_bounds, whatever they are and however
  /// many there are: links, pipes and devices are left alone.
  virtual result<collected> collect(const std::string& folder, const std::string& prefix) = 0;
  /// The listener inside the zone, once per boot with network; the caller owns it.
  virtual unique_fd take_listener() = 0;
  /// Where the zone's processes are members, for perf; empty when there is none.
  virtual std::string cgroup_path() const = 0;
  /// Pid of the zone's init on the host; -1 when it is down.
  virtual int init_pid() const = 0;
  /// Ends everything in the zone and drops its writable layer. Fine when it is down.
  virtual result<void> end() = 0;

  // Snapshots, as vmadm(8) of SmartOS has them. To make one and to go back to one, a zone that is
  // up is stopped, and booted again as it was.

  virtual result<zone_facts> facts() = 0;
  /// Keeps the zone's files as `name`; boots start from it then. ec::bad_argument for what is no
  /// name; ec::invalid_state when it exists, when the zone is up on a generation that its end
  /// throws away, or when more than 16 would be stacked.
  virtual result<void> snapshot(const std::string& name) = 0;
  /// Boots start from `name` again, and what was written since is gone; so are newer snapshots,
  /// which are named. It cannot be undone. ec::not_found; ec::no_clean.
  virtual result<std::vector<std::string>> rollback(const std::string& name) = 0;
  /// ec::not_found; ec::invalid_state for the current one, and for one that others are stacked on.
  virtual result<void> delete_snapshot(const std::string& name) = 0;
  /// Ends it and deletes all of it. ec::no_such_zone for every call from then on.
  virtual result<void> destroy() = 0;
};

}  // namespace ntrace::zone
