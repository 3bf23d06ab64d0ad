#pragma once
// The tunnel's face among actors: its supervisor's child, which owns the engine.
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>

#include "actors/tunnel/tunnel_engine.hpp"

namespace ntrace::tunnel {

/// Serves rpc::call of the method "tunnel": no argument or ["status"] gives the engine's status,
/// ["retry"] makes it dial now and gives the status after it.
caf::actor spawn_tunnel(caf::actor_system& system, const tunnel_settings& settings);

}  // namespace ntrace::tunnel
