#pragma once
// The supervision tree as data: what the shell, `status` and the tests see.
#include <nlohmann/json.hpp>

#include "supervision/supervisor_fsm.hpp"

namespace ntrace::supervision {

/// {"strategy", "intensity", "period_ms", "restarts_in_window", "budget_left", "children": [{"id",
/// "type", "restart", "state", "incarnation", "restarts", "uptime_ms", "last_reason",
/// "last_exit_ms_ago", "retry_in_ms"}…]}; the last two only where they say something. The actor
/// adds to each child "mailbox_size" (messages that its façade holds; null without one), and to
/// supervisors "tree", and where a request is not answered yet "doing" and "doing_ms": what the
/// oldest is, and for how long it has waited (facade_view.hpp).
nlohmann::json describe(supervisor_fsm& fsm, time_point now);

/// The tree as indented text, one child a line.
std::string print_tree(const nlohmann::json& tree, const std::string& name);

}  // namespace ntrace::supervision
