#pragma once
// The method `push`, on the thread of the port where it is called: what comes together is written
// together, and one push costs no message of its own.
#include <caf/actor.hpp>

#include "actors/dispatcher/push_gate.hpp"
#include "actors/rpc/port_method.hpp"

namespace ntrace::dispatcher {

/// `journal`: façade of journal::journal_actor, which gives what is new to the same gate.
rpc::port_method_spec push_intake(std::string source_template, caf::actor journal,
                                  std::shared_ptr<push_gate> gate);

}  // namespace ntrace::dispatcher
