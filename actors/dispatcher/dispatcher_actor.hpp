#pragma once
// The actor over queue_fsm: serves the dispatcher's methods and performs what the machine decides.
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>

#include "actors/dispatcher/queue_fsm.hpp"
#include "actors/rpc/rpc_types.hpp"

namespace ntrace::dispatcher {

struct dispatcher_parts {
  queue_options options;
  std::shared_ptr<push_gate> gate;
  caf::actor journal;  ///< Façade of journal::journal_actor.
  caf::actor reader;   ///< Façade of journal::journal_reader.
  caf::actor monitor;  ///< Façade of journal::journal_monitor.
  caf::actor server;   ///< Façade of the RPC server, for calls to runners.
  caf::actor root;     ///< Façade of the root supervisor, for `tree`.
};

/// Serves `call` (docs/protocol.md, "Dispatcher") but for `push` (push_intake), `peer_gone`,
/// `port_opened`, and
///   (stop)         → this process ends soon: take no new work
///   (idle)         → number of attempts that are held
///   (wait)         → ok once it knows what the journal holds; it ends when that cannot be read
result<caf::actor> spawn_dispatcher(caf::actor_system& system, const dispatcher_parts& parts);

using stop_atom = caf::atom_constant<caf::atom("stop")>;
using idle_atom = caf::atom_constant<caf::atom("idle")>;

}  // namespace ntrace::dispatcher
