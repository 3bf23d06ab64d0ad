#include "actors/profiler/profiler_actor.hpp"

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "supervision/caf_types.hpp"

namespace ntrace::profiler {
namespace {

using supervision::to_caf;

struct profiler_state {
  const char* name = "profiler";
  std::unique_ptr<sampler_perf> sampler;  ///< Its end kills perf, however the actor ends.
};
using profiler_self = profiler_actor::stateful_pointer<profiler_state>;

profiler_actor::behavior_type run(profiler_self self, int /* keeps CAF from binding null */) {
  supervision::guard(self, "profiler");
  const auto missing = [] {
    return to_caf({ec::profile_failed, "the sampler was not started", {}});
  };
  return {
      [self](const arm_request& r) -> caf::result<caf::ok_atom> {
        auto started = sampler_perf::start(r.spec);
        if (!started) return to_caf(started.error());
        self->state.sampler = std::move(*started);
        return caf::ok_atom::value;
      },
      [self, missing](enable_atom) -> caf::result<caf::ok_atom> {
        if (!self->state.sampler) return missing();
        if (auto enabled = self->state.sampler->enable(); !enabled) return to_caf(enabled.error());
        return caf::ok_atom::value;
      },
      [self, missing](capture_atom) -> caf::result<capture_ptr> {
        if (!self->state.sampler) return missing();
        host_kernel_symbols();  // Read here, where a thread may block, for the fold that follows.
        auto capture = self->state.sampler->stop();
        if (!capture) return to_caf(capture.error());
        return std::make_shared<raw_capture>(std::move(*capture));
      }};
}

}  // namespace

profiler_actor spawn_profiler(caf::actor_system& system) {
  return system.spawn<caf::detached>(run, 0);
}

}  // namespace ntrace::profiler
