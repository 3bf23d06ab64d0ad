#include "supervision/tree.hpp"

namespace ntrace::supervision {

std::string_view to_string(strategy s) {
  switch (s) {
    case strategy::one_for_one:
      return "one_for_one";
    case strategy::one_for_all:
      return "one_for_all";
    case strategy::rest_for_one:
      return "rest_for_one";
    case strategy::simple_one_for_one:
      return "simple_one_for_one";
  }
  return "one_for_one";
}

std::string_view to_string(restart_type r) {
  switch (r) {
    case restart_type::permanent:
      return "permanent";
    case restart_type::transient:
      return "transient";
    case restart_type::temporary:
      return "temporary";
  }
  return "permanent";
}

nlohmann::json describe(supervisor_fsm& fsm, time_point now) {
  nlohmann::json children = nlohmann::json::array();
  for (const auto& c : fsm.children()) {
    const auto uptime = std::chrono::duration_cast<milliseconds>(now - c.since).count();
    children.push_back({{"id", c.spec.id},
                        {"type", c.spec.kind == child_kind::worker ? "worker" : "supervisor"},
                        {"restart", to_string(c.spec.restart)},
                        {"state", to_string(c.state)},
                        {"incarnation", c.incarnation},
                        {"restarts", c.restarts},
                        {"uptime_ms", c.state == child_state::running ? uptime : 0},
                        {"last_reason", c.last_reason}});
  }
  return {{"strategy", to_string(fsm.flags().how)},
          {"budget_left", fsm.budget_left(now)},
          {"children", children}};
}

std::string print_tree(const nlohmann::json& tree, const std::string& name) {
  std::string out = name + "  " + tree.value("strategy", "") + "\n";
  const auto children = tree.value("children", nlohmann::json::array());
  for (std::size_t i = 0; i < children.size(); ++i) {
    const auto& c = children[i];
    const bool is_last = i + 1 == children.size();
    std::string text;
    if (c.contains("tree"))
      text = print_tree(c["tree"], c.value("id", ""));
    else
      text = c.value("id", "") + "  " + c.value("restart", "") + "\n";
    bool is_first = true;
    std::size_t at = 0;
    while (at < text.size()) {
      const auto end = text.find('\n', at);
      out += (is_first ? (is_last ? "└─ " : "├─ ") : (is_last ? "   " : "│  ")) +
             text.substr(at, end - at) + "\n";
      is_first = false;
      at = end + 1;
    }
  }
  return out;
}

}  // namespace ntrace::supervision
