// A supervision tree for a terminal: one actor a line.
#include "tools/command.hpp"

#include <fmt/core.h>

namespace ntrace::tools {
namespace {

using table_rows = std::vector<std::vector<std::string>>;

std::string seconds(std::int64_t ms) { return std::to_string(ms / 1000) + " s"; }

void add_tree_rows(const json& tree, const std::string& indent, table_rows& rows) {
  const auto children = tree.value("children", json::array());
  for (std::size_t i = 0; i < children.size(); ++i) {
    const auto& c = children[i];
    const bool is_last = i + 1 == children.size();
    const bool has_tree = c.contains("tree") && c["tree"].is_object();
    const auto ago = c.value("last_exit_ms_ago", std::int64_t{0});
    const auto reason = c.value("last_reason", "");
    rows.push_back({indent + (is_last ? "└─ " : "├─ ") + c.value("id", ""),
                    has_tree ? c["tree"].value("strategy", "") : c.value("restart", ""),
                    c.value("state", ""), std::to_string(c.value("incarnation", 0)),
                    std::to_string(c.value("restarts", 0)),
                    has_tree ? std::to_string(c["tree"].value("budget_left", 0)) : "-",
                    seconds(c.value("uptime_ms", std::int64_t{0})),
                    reason.empty() ? "-" : fmt::format("{}, {} ago", reason, seconds(ago))});
    if (has_tree) add_tree_rows(c["tree"], indent + (is_last ? "   " : "│  "), rows);
  }
}

}  // namespace

std::string show_tree(const json& root) {
  table_rows rows{
      {"ACTOR", "RESTART", "STATE", "INCARNATION", "RESTARTS", "BUDGET", "UPTIME", "LAST END"}};
  rows.push_back({"root", root.value("strategy", ""), "running", "1", "0",
                  std::to_string(root.value("budget_left", 0)), "-", "-"});
  add_tree_rows(root, "", rows);
  return for_terminal(table(rows));
}

}  // namespace ntrace::tools
