#pragma once
// One run with nothing running before or after: attempts until there is a verdict, everything they
// produce handed to the caller. What `ntrace profile` does.
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>

#include "actors/runner/runner_actor.hpp"
#include "supervision/held_bytes.hpp"

namespace ntrace::runner {

struct solo_spec {
  attempt_options options;
  std::string source;
  std::string worker;      ///< An existing zone.
  caf::actor zone;         ///< Façade of its actor.
  caf::actor attempt_sup;  ///< Façade.
  caf::actor self;         ///< The solo actor's own façade.
  unsigned attempts = 5;
  backoff_policy backoff;
  /// Called on an actor's thread with each chunk, in order.
  std::function<void(std::uint64_t attempt, domain::stream stream, const std::string& data)>
      on_chunk;
};

struct solo_end {
  attempt_finished last;
  std::uint64_t attempts = 0;
};

/// Message (run) → solo_end; (cancel, string) ends it.
result<caf::actor> spawn_solo(caf::actor_system& system, const solo_spec& spec);

using run_atom = caf::atom_constant<caf::atom("run")>;

}  // namespace ntrace::runner

NTRACE_LOCAL_MESSAGE(ntrace::runner::solo_end)
