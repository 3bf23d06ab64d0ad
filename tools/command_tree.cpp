#include "tools/command_tree.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>

namespace ntrace::tools {
namespace {

/// CLI11 writes a choice into the type: "TEXT:{svg,html}", a range as "INT:INT in [1 - 9]".
argument read_argument(const CLI::Option& o) {
  argument out;
  out.text = o.get_description();
  out.group = o.get_group();
  out.variable = o.get_envname();
  out.is_required = o.get_required();
  out.is_repeated = o.get_items_expected_max() > 1;
  if (o.get_positional()) {
    out.names = {o.get_name(true)};
  } else {
    for (const auto& name : o.get_snames()) out.names.push_back("-" + name);
    for (const auto& name : o.get_lnames()) out.names.push_back("--" + name);
  }
  if (o.get_items_expected_max() == 0) {
    out.takes_true_or_false = out.group == settings_group || out.group == rare_group;
    return out;
  }
  out.fallback = o.get_default_str();
  const auto type = o.get_type_name();
  out.value = type.substr(0, type.find(':'));
  const auto open = type.find(":{"), close = type.rfind('}');
  if (open == std::string::npos || close == std::string::npos || close < open) {
    if (type.find(':') != std::string::npos) out.limits = type.substr(type.find(':') + 1);
    return out;
  }
  for (const auto& choice : CLI::detail::split(type.substr(open + 2, close - open - 2), ','))
    out.choices.push_back(choice);
  return out;
}

}  // namespace

std::string command::name() const {
  const auto at = path.rfind(' ');
  return at == std::string::npos ? path : path.substr(at + 1);
}

std::string value_name(const argument& a) {
  if (!a.choices.empty()) return "WORD";
  if (a.value == "INT" || a.value == "UINT") return "N";
  return a.value == "FLOAT" ? "NUMBER" : a.value;
}

command read_command(const CLI::App& app, const std::string& parent) {
  command out;
  out.path = parent.empty() ? app.get_name() : parent + " " + app.get_name();
  out.text = app.get_description();
  out.group = app.get_group();
  for (const auto* option : app.get_options([](const CLI::Option*) { return true; })) {
    if (option->get_group().empty()) continue;
    (option->get_positional() ? out.positionals : out.options).push_back(read_argument(*option));
  }
  // Each heading once: the command's own options first, rare settings last.
  const auto rank = [](const argument& a) {
    return a.group == rare_group ? 2 : a.group == settings_group ? 1 : 0;
  };
  std::stable_sort(out.options.begin(), out.options.end(),
                   [&](const argument& a, const argument& b) { return rank(a) < rank(b); });
  for (const auto* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    if (!sub->get_group().empty()) out.commands.push_back(read_command(*sub, out.path));
  return out;
}

}  // namespace ntrace::tools
