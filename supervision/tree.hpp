#pragma once
// The supervision tree as data: what the shell, `status` and the tests see.
#include <nlohmann/json.hpp>

#include "supervision/supervisor_fsm.hpp"

namespace ntrace::supervision {

std::string_view to_string(strategy s);
std::string_view to_string(restart_type r);

/// {"strategy", "budget_left", "children": [{"id", "type", "restart", "state", "incarnation",
/// "restarts", "uptime_ms", "last_reason"}…]}; the caller puts a supervisor child's own tree below
/// "children" of its entry.
nlohmann::json describe(supervisor_fsm& fsm, time_point now);

/// The tree as indented text, one child a line.
std::string print_tree(const nlohmann::json& tree, const std::string& name);

}  // namespace ntrace::supervision
