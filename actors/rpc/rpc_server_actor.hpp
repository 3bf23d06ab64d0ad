#pragma once
// The line protocol on a TCP port: a CAF broker that moves bytes and leaves the protocol to
// net::rpc_session.
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>

#include "actors/rpc/rpc_types.hpp"
#include "config/settings.hpp"

namespace ntrace::rpc {

/// Serves on `at` (port 0: any free one); every request goes to `handler` as a `call`. Messages:
/// `notify`, and ("port") → the port it listens on. ec::unreachable when the port is taken.
result<caf::actor> spawn_rpc_server(caf::actor_system& system, const host_port& at,
                                    const caf::actor& handler);

using port_atom = caf::atom_constant<caf::atom("port")>;

}  // namespace ntrace::rpc
