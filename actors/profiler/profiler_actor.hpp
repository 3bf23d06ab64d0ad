#pragma once
// The sampler of one attempt as an actor on its own thread.
#include <caf/actor_system.hpp>
#include <caf/typed_actor.hpp>

#include "actors/profiler/sampler_perf.hpp"
#include "supervision/held_bytes.hpp"

namespace ntrace::profiler {

struct arm_request {
  sampler_spec spec;
};
using enable_atom = caf::atom_constant<caf::atom("enable")>;
using capture_atom = caf::atom_constant<caf::atom("capture")>;
using capture_ptr = std::shared_ptr<raw_capture>;

using profiler_actor = caf::typed_actor<
    /// Starts the sampler; it does not count yet.
    caf::replies_to<arm_request>::with<caf::ok_atom>,
    /// From now on it counts.
    caf::replies_to<enable_atom>::with<caf::ok_atom>,
    /// Ends it and gives what it saw. All three fail with profile_failed only.
    caf::replies_to<capture_atom>::with<capture_ptr>>;

profiler_actor spawn_profiler(caf::actor_system& system);

}  // namespace ntrace::profiler

NTRACE_LOCAL_MESSAGE(ntrace::profiler::arm_request)
NTRACE_LOCAL_MESSAGE(ntrace::profiler::capture_ptr)
