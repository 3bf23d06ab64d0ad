#pragma once
// Tells an install step that failed because a registry was away from one that failed by itself.
#include <map>
#include <mutex>

#include "actors/runner/attempt_fsm.hpp"
#include "actors/runner/install_sources.hpp"
#include "actors/runner/tree_facts.hpp"
#include "config/cancellation.hpp"
#include "config/outage.hpp"
#include "net/egress_policy.hpp"
#include "net/egress_proxy.hpp"

namespace ntrace::runner {

/// Which addresses an install step reached. Thread-safe.
class reach_log {
public:
  /// `failed`: why it could not be reached, or broke; null when it was reached.
  void note(const host_port& at, const error* failed);
  /// What was last noted of it; nothing when it was not asked for, ec::none when it was reached.
  std::optional<error> last(const host_port& at) const;

private:
  mutable std::mutex guard_;
  std::map<std::pair<std::string, std::uint16_t>, error> noted_;  ///< Bounded.
};

/// A connection that was refused, or that broke, as a line of the stream `events`.
domain::document event_of(const net::egress_report& e);

/// The hosts that the install needs. ec::forbidden, with what to add to network_allow, when one is
/// not in `allow`: npm would only say that it cannot connect.
result<std::vector<package_host>> expect_hosts(const tree_facts& tree,
                                               const std::string& npm_registry,
                                               const std::vector<net::allow_entry>& allow);

/// The outcome of an install step, which is an outage when it failed and one of `hosts` could not
/// be reached; what npm says of it decides nothing, nor what else a package's own script dialled.
/// The registries among `hosts` that were met, the first four, are asked once more: what they
/// answer to npm, the egress proxy cannot see. ec::io when a host was not reached because this
/// machine had nothing left to dial with. Blocks.
step_outcome look_for_outage(step_outcome install, const reach_log& reached,
                             const std::vector<package_host>& hosts, const std::string& ca_file,
                             const cancellation* stop);

}  // namespace ntrace::runner
