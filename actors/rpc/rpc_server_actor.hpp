#pragma once
// The line protocol on a TCP port: a net::rpc_listener on its thread, and the actor that owns it
// and brings what is asked there to the actor that serves it.
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>

#include "actors/rpc/port_method.hpp"
#include "actors/rpc/rpc_types.hpp"
#include "config/settings.hpp"

namespace ntrace::rpc {

/// Serves on `at` (port 0: any free one); every request but those of `own` goes to `handler` as a
/// `call`. Messages: `notify`, ("port") → the port it listens on, and `call` of the method `own`.
/// ec::unreachable when the port is taken.
result<caf::actor> spawn_rpc_server(caf::actor_system& system, const host_port& at,
                                    const caf::actor& handler, const port_method_spec& own = {});

using port_atom = caf::atom_constant<caf::atom("port")>;

}  // namespace ntrace::rpc
