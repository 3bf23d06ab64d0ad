#pragma once
// What the parts of the runner's actor share: runner_actor.cpp speaks with dispatcher and attempts,
// runner_enrolment.cpp makes, enrols and expels workers.
#include <caf/event_based_actor.hpp>
#include <caf/stateful_actor.hpp>

#include <map>
#include <optional>

#include "actors/runner/runner_actor.hpp"
#include "actors/runner/runner_fsm.hpp"
#include "config/wake_timer.hpp"

namespace ntrace::runner {

struct runner_state {
  const char* name = "runner";
  runner_parts parts;
  std::optional<runner_fsm> fsm;
  wake_timer timer;
  std::map<std::uint64_t, caf::actor> attempts;                       ///< By token.
  std::map<std::uint64_t, std::shared_ptr<zone::zone_lease>> leases;  ///< By token.
  std::map<caf::actor_id, std::uint64_t> tokens;
  std::map<std::uint64_t, std::string> early_cancels;  ///< Of attempts that are being spawned.
  std::map<std::string, caf::actor> zones;             ///< Façades by uuid.
  std::vector<caf::response_promise> waiting, asked_for_hello;  ///< Until it is ready.
  bool is_ready = false;
};
using runner_self = caf::stateful_actor<runner_state>*;

/// Does what the machine says. `lead` is of the clock that zones go by, when that was said which
/// the dispatcher has answered.
void carry_out(runner_self self, const runner_effects& todo,
               zone::boot_clock::duration lead = zone::boot_clock_lead());

/// The id of a worker's zone below zone_sup.
inline std::string zone_id(const std::string& uuid) { return "zone_" + uuid; }

/// Brings up the zones of those who are enrolled; then the runner is ready.
void start(runner_self self);
void enroll(runner_self self, const std::string& uuid, const caf::response_promise& promise);
/// `abort`: what runs there is ended.
void expel(runner_self self, const std::string& uuid, bool abort,
           const caf::response_promise& promise);

}  // namespace ntrace::runner
