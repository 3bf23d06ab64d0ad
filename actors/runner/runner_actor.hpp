#pragma once
// The runner: owns the pool of workers, answers the dispatcher's offers, serves enroll, expel and
// workers.
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>

#include "actors/runner/attempt_actor.hpp"
#include "actors/zone/linux/privileged_helper.hpp"
#include "config/backoff.hpp"

namespace ntrace::runner {

struct runner_parts {
  attempt_options options;
  std::string name;         ///< In hello.
  std::string data;         ///< <data>/workers.json holds who is enrolled.
  std::size_t workers = 0;  ///< Zones to make and enrol when there are fewer.
  std::shared_ptr<zone::privileged_helper> helper;
  caf::actor link, outbox, zone_sup, attempt_sup;  ///< Façades.
  caf::actor self;                                 ///< The runner's own façade.
  caf::actor root;                                 ///< Façade of the root supervisor, for `tree`.
  caf::actor tunnel{};                             ///< Façade; null when the link dials directly.
};

/// Serves `call` (from the dispatcher: offer, abort; from people: enroll, expel, workers, status,
/// drain, resume) and
///   (ready)        → unit once the enrolled workers are there
///   (drain, bool)  → take no more offers, or take them again
///   (idle)         → number of attempts under way
result<caf::actor> spawn_runner(caf::actor_system& system, const runner_parts& parts);

/// What zones have in common under their supervisor: permanent, and 60 s to be rolled back in.
supervision::child_spec zone_template();

using ready_atom = caf::atom_constant<caf::atom("ready")>;
using drain_atom = caf::atom_constant<caf::atom("drain")>;
using idle_atom = caf::atom_constant<caf::atom("idle")>;

}  // namespace ntrace::runner
