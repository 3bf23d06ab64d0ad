#pragma once
// A connection to a server of the line protocol that is kept up: it dials again by itself, and both
// sides may call.
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>

#include "actors/rpc/messages/runner_messages.hpp"
#include "actors/rpc/rpc_types.hpp"
#include "config/settings.hpp"
#include "supervision/held_bytes.hpp"

namespace ntrace::rpc {

/// A link to a server came up (after its hello was answered) or was lost.
struct link_up {
  hello_answer hello;
};
struct link_lost {
  std::string reason;
};

/// Asks `owner` for the arguments of its hello, dials `to` and says it; again and again until it is
/// answered. Then the owner hears `link_up` with the answer, each call of the server as a `call`,
/// and `link_lost` when it is gone. Messages:
///   (call) → served    calls the server's method; connection_lost when the link ends first
/// The owner answers (hello) with hello_args once it is ready.
caf::actor spawn_rpc_link(caf::actor_system& system, const host_port& to, const caf::actor& owner);

using hello_atom = caf::atom_constant<caf::atom("hello")>;

struct hello_args {
  nlohmann::json value;
};

}  // namespace ntrace::rpc

NTRACE_LOCAL_MESSAGE(ntrace::rpc::hello_args)
NTRACE_LOCAL_MESSAGE(ntrace::rpc::link_up)
NTRACE_LOCAL_MESSAGE(ntrace::rpc::link_lost)
