#pragma once
// The actor over supervisor_fsm: starts children, monitors them (never links), and performs what
// the machine decides.
#include <caf/actor.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/fwd.hpp>
#include <functional>
#include <nlohmann/json.hpp>

#include "supervision/facade.hpp"
#include "supervision/supervisor_fsm.hpp"

namespace ntrace::supervision {

/// Starts one incarnation; the actor must not be linked to the supervisor.
using start_function = std::function<result<caf::actor>(caf::local_actor*)>;

struct child {
  child_spec spec;
  start_function start;
  caf::actor front;  ///< The façade that follows its incarnations; may be null.
};

using add_child_atom = caf::atom_constant<caf::atom("add")>;
using tree_atom = caf::atom_constant<caf::atom("tree")>;
using stop_atom = caf::atom_constant<caf::atom("stop")>;
using wait_atom = caf::atom_constant<caf::atom("wait")>;
using kill_atom = caf::atom_constant<caf::atom("killchild")>;

/// Messages:
///   (wait)               → unit once all children are up, or the error that kept one from starting
///   (add, child)         → unit; starts one more
///   (tree)               → string, describe()'s JSON with the trees of supervisor children inside
///   (stop)               ends all children in reverse order, then itself
///   (killchild, string)  → bool; kills a child by its path "a/b/c": for fault injection
caf::actor spawn_supervisor(caf::actor_system& system, const std::string& name,
                            supervisor_flags flags, std::vector<child> children);
/// The same as a child's start function, for trees.
start_function supervisor_start(std::string name, supervisor_flags flags,
                                std::vector<child> children);

}  // namespace ntrace::supervision

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ntrace::supervision::child)
