#pragma once
// Carries what attempts produce to the dispatcher over the link, in order, until it is
// acknowledged.
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>

#include "actors/runner/attempt_actor.hpp"

namespace ntrace::runner {

/// The attempt of `token` is over for the runner: its zone can be ended.
struct attempt_over {
  std::uint64_t token = 0;
  bool zone_is_broken = false;
  nlohmann::json clean;
};
/// The dispatcher gave the lease to somebody else, or took it back.
struct attempt_stale {
  std::uint64_t token = 0;
};

/// The runner has begun it: what it says is numbered from here on.
struct attempt_begun {
  std::uint64_t token = 0;
};
/// No attempt runs that has not given its verdict: the runner says so when it starts.
struct attempts_lost {
  std::string reason;
};

/// A sink of attempts. Hears attempt_begun, attempts_lost, rpc::link_up and rpc::link_lost from the
/// runner, and tells it attempt_over and attempt_stale.
result<caf::actor> spawn_outbox(caf::actor_system& system, const caf::actor& link,
                                const caf::actor& runner);

}  // namespace ntrace::runner

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ntrace::runner::attempt_over)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ntrace::runner::attempt_stale)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ntrace::runner::attempts_lost)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ntrace::runner::attempt_begun)
