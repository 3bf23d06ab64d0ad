#pragma once
// Builds the supervision trees of the roles from settings.
#include <caf/actor_system.hpp>

#include "supervision/caf_config.hpp"
#include "supervision/supervisor_actor.hpp"
#include "tools/role_settings.hpp"

namespace ntrace::tools {

/// With the middleman.
struct system_config : supervision::caf_config {
  system_config();
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

/// The children of the root for the roles that have settings. `helper` is needed for the runner.
wired wire(caf::actor_system& system, const role_settings& s,
           const std::shared_ptr<zone::privileged_helper>& helper);

}  // namespace ntrace::tools
