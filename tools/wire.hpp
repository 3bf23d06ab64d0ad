#pragma once
// Builds the supervision trees of the roles from settings.
#include <caf/actor_system.hpp>

#include "actors/runner/runner_actor.hpp"
#include "config/settings.hpp"
#include "supervision/caf_config.hpp"
#include "supervision/supervisor_actor.hpp"

namespace ntrace::tools {

/// With the middleman.
struct system_config : supervision::caf_config {
  system_config();
};

struct role_set {
  bool dispatcher = false, runner = false;
};

/// What a running role can be asked.
struct wired {
  std::vector<supervision::child> children;  ///< Of the root.
  std::vector<caf::actor> fronts;            ///< All façades, to be ended last.
  caf::actor dispatcher, dispatcher_server;  ///< Façades; null without the role.
  caf::actor webhook, shell;
  caf::actor runner, runner_server;
  caf::actor root;  ///< To be pointed at the root supervisor.
};

/// The children of the root for the roles. `helper` is needed for the runner.
result<wired> wire(caf::actor_system& system, const settings& s, role_set roles,
                   const std::shared_ptr<zone::privileged_helper>& helper);

/// The settings that attempts go by. ec::bad_config for an allow-list that cannot be read.
result<runner::attempt_options> attempt_options_from(const settings& s);

zone::helper_options helper_options_from(const settings& s);

}  // namespace ntrace::tools
