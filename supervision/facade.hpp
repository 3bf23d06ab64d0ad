#pragma once
// A façade: an address that stays valid while the actor behind it is replaced.
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <cstddef>

namespace ntrace::supervision {

inline constexpr std::size_t facade_queue_max = 1024;

/// Forwards every message to the target, and answers come from the target. While there is none,
/// messages wait, at most facade_queue_max of them; beyond that requests are answered overloaded.
caf::actor spawn_facade(caf::actor_system& system);

/// Points the façade at a new incarnation, to which what waits is sent in order.
void point_facade(const caf::actor& facade, const caf::actor& target);
/// The target is gone; messages wait.
void clear_facade(const caf::actor& facade);
/// Nothing will come any more: what waits is answered no_such_child, and the façade ends.
void end_facade(const caf::actor& facade);

}  // namespace ntrace::supervision
