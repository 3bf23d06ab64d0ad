#pragma once
// Faults that the fleet has to answer in its own way: the answer is held against the rules while
// they last. docs/chaos.md, "Faults".
#include "tests/chaos/faults.hpp"

namespace ntrace::chaos {

/// Somebody starts a second server on the folder of one that works: it is refused.
result<void> second_owner(scene& s);

/// The sources of all pushes cannot be reached, until a run was seen to wait for them.
/// ec::not_found when none did.
result<void> take_forge_away(scene& s);

/// A runner is stopped, and perhaps who holds its zones with it, until its leases are over: then
/// nothing is alive in its zones. ec::not_found when no zone holds a lease.
result<void> outlive_lease(scene& s);
result<void> go_on_all(scene& s);

}  // namespace ntrace::chaos
