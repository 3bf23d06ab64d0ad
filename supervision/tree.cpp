#include "supervision/tree.hpp"

#include <fmt/core.h>

namespace ntrace::supervision {

nlohmann::json describe(supervisor_fsm& fsm, time_point now) {
  nlohmann::json children = nlohmann::json::array();
  const auto ms = [](time_point::duration d) {
    return std::chrono::duration_cast<milliseconds>(d).count();
  };
  for (const auto& c : fsm.children()) {
    children.push_back({{"id", c.spec.id},
                        {"type", c.spec.kind == child_kind::worker ? "worker" : "supervisor"},
                        {"restart", to_string(c.spec.restart)},
                        {"state", to_string(c.state)},
                        {"incarnation", c.incarnation},
                        {"restarts", c.restarts},
                        {"uptime_ms", c.state == child_state::running ? ms(now - c.since) : 0},
                        {"last_reason", c.last_reason}});
    auto& child = children.back();
    if (!c.last_reason.empty()) child["last_exit_ms_ago"] = ms(now - c.last_exit_at);
    if (c.retry_at) child["retry_in_ms"] = ms(*c.retry_at - now);
  }
  return {{"strategy", to_string(fsm.flags().how)},
          {"intensity", fsm.flags().intensity},
          {"period_ms", fsm.flags().period.count()},
          {"restarts_in_window", fsm.restarts_in_window(now)},
          {"budget_left", fsm.budget_left(now)},
          {"children", children}};
}

std::string print_tree(const nlohmann::json& tree, const std::string& name) {
  std::string out = fmt::format("{}  {}\n", name, tree.value("strategy", ""));
  const auto children = tree.value("children", nlohmann::json::array());
  for (std::size_t i = 0; i < children.size(); ++i) {
    const auto& c = children[i];
    const bool is_last = i + 1 == children.size();
    std::string text;
    if (c.contains("tree"))
      text = print_tree(c["tree"], c.value("id", ""));
    else
      text = fmt::format("{}  {}\n", c.value("id", ""), c.value("restart", ""));
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
