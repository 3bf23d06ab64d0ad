#pragma once
// What each role goes by: all its settings, read and checked once, before anything starts.
#include <optional>

#include "actors/dashboard/webhook_actor.hpp"
#include "actors/dispatcher/dispatcher_actor.hpp"
#include "actors/journal/journal_actor.hpp"
#include "actors/runner/outbox_actor.hpp"
#include "actors/runner/runner_actor.hpp"
#include "actors/shell/shell_actor.hpp"
#include "actors/tunnel/tunnel_settings.hpp"
#include "config/settings.hpp"

namespace ntrace::tools {

struct role_set {
  bool dispatcher = false, runner = false;
};

/// Of the process, whatever its roles.
struct process_settings {
  std::string data, log_level;
  milliseconds drain{0}, stop{0};
};
process_settings process_settings_from(const settings& s);

struct dispatcher_settings {
  host_port listen;
  std::string journal;  ///< Its file.
  dispatcher::queue_options queue;
  journal::retention keep;
  std::optional<dashboard::webhook_options> webhook;
};
result<dispatcher_settings> dispatcher_settings_from(const settings& s);

struct runner_settings {
  host_port listen, dispatcher;
  std::string data, name;
  std::size_t workers = 0;
  runner::attempt_options attempt;
  zone::helper_options helper;
  runner::outbox_options outbox;
  std::optional<tunnel::tunnel_settings> tunnel;  ///< None: it dials the dispatcher itself.
};
result<runner_settings> runner_settings_from(const settings& s);

/// Of all that a process serves; none for what it does not.
struct role_settings {
  process_settings process;
  std::optional<dispatcher_settings> dispatcher;
  std::optional<runner_settings> runner;
  std::optional<shell::shell_options> shell;
};
/// ec::bad_config for the first that cannot be.
result<role_settings> role_settings_from(const settings& s, role_set roles);

}  // namespace ntrace::tools
