#pragma once
// One attempt as an actor: performs what attempt_fsm decides on a zone, a sampler and a source.
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>

#include "actors/runner/attempt_fsm.hpp"
#include "actors/runner/source.hpp"
#include "actors/zone/zone_actor.hpp"
#include "supervision/child_spec.hpp"
#include "supervision/held_bytes.hpp"

namespace ntrace::runner {

/// The runner's settings that attempts go by.
struct attempt_options {
  zone::zone_limits limits;
  zone::output_limits output;
  milliseconds boot{5000}, install{600'000}, run{900'000};
  net::egress_options egress;
  source_options source;
  std::string npm_registry;
  std::uint64_t frequency = 999;
  std::string scratch;
};

struct attempt_spec {
  std::string run;
  std::uint64_t attempt = 1, token = 0;
  std::string source;  ///< SPEC.
  std::string worker;  ///< The zone's uuid.
  caf::actor zone;     ///< Façade of its zone::zone_actor.
  caf::actor sink;     ///< Hears the four messages below.
  /// With which its zone ends; null: nobody's.
  std::shared_ptr<const zone::zone_lease> lease{};
};

/// What an attempt tells its sink, in this order: started once, chunks, finished once.
struct attempt_started {
  std::uint64_t token = 0;
  std::string zone;
  domain::document clean;  ///< The proof.
};
/// Of `events`: one JSON object; of `result`: zstd of the folded stacks.
struct attempt_chunk {
  std::uint64_t token = 0;
  domain::stream stream = domain::stream::out;
  std::string data;
};
struct attempt_finished {
  std::uint64_t token = 0;
  domain::verdict how = domain::verdict::infrastructure;
  std::string reason{};
  domain::document receipt = domain::empty_object();
  bool zone_is_broken = false;
  std::optional<outage> lost_to{};
};

/// What attempts have in common under their supervisor: temporary, and 30 s to end in.
supervision::child_spec attempt_template();

/// Message (cancel, string): end as soon as may be, with that reason.
result<caf::actor> spawn_attempt(caf::actor_system& system, const attempt_options& options,
                                 const attempt_spec& spec);

using cancel_atom = caf::atom_constant<caf::atom("cancel")>;

}  // namespace ntrace::runner

NTRACE_LOCAL_MESSAGE(ntrace::runner::attempt_started)
NTRACE_LOCAL_MESSAGE(ntrace::runner::attempt_chunk)
NTRACE_LOCAL_MESSAGE(ntrace::runner::attempt_finished)
