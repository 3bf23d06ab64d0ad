#pragma once
// Carries what attempts produce to the dispatcher over the link, in order, until it is
// acknowledged; on disk before it is said.
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>

#include "actors/runner/attempt_actor.hpp"
#include "actors/runner/outbox_fsm.hpp"
#include "supervision/held_bytes.hpp"

namespace ntrace::runner {

/// The runner has begun it: what it says is numbered from here on.
struct attempt_begun {
  std::uint64_t token = 0;
  std::string run;
};
/// The runner is a new one: no attempt runs that has not given its verdict.
struct attempts_lost {
  std::string reason;
};

struct outbox_options {
  std::string path;  ///< Of its file.
  outbox_bounds bounds;
};

/// A sink of attempts, on its own thread. Hears attempt_begun, attempts_lost, rpc::link_up and
/// rpc::link_lost from the runner, and tells it attempt_done, delivered, drop_stale, give_up and
/// room_changed. The error of a file that cannot be opened or read.
result<caf::actor> spawn_outbox(caf::actor_system& system, const outbox_options& options,
                                const caf::actor& link, const caf::actor& runner);

}  // namespace ntrace::runner

NTRACE_LOCAL_MESSAGE(ntrace::runner::attempt_done)
NTRACE_LOCAL_MESSAGE(ntrace::runner::delivered)
NTRACE_LOCAL_MESSAGE(ntrace::runner::drop_stale)
NTRACE_LOCAL_MESSAGE(ntrace::runner::give_up)
NTRACE_LOCAL_MESSAGE(ntrace::runner::room_changed)
NTRACE_LOCAL_MESSAGE(ntrace::runner::attempts_lost)
NTRACE_LOCAL_MESSAGE(ntrace::runner::attempt_begun)
