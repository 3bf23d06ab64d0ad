#include "tools/help_page.hpp"

#include <algorithm>
#include <sstream>
#include <vector>

#include "config/utf8.hpp"
#include "tools/usage.hpp"

namespace ntrace::tools {
namespace {

// Columns of the names; longer ones have a line of their own.
constexpr std::size_t names_width = 28;

std::size_t columns(const std::string& text) {
  return text.size() -
         static_cast<std::size_t>(std::count_if(text.begin(), text.end(), is_continuation));
}

/// Wraps words to lines of `width` columns. Lines after the first begin with `indent` blanks.
std::string wrapped(const std::string& text, std::size_t first, std::size_t indent,
                    std::size_t width) {
  std::istringstream in{text};
  std::string out;
  auto at = first;
  bool is_first = true;
  for (std::string word; in >> word; is_first = false) {
    if (!is_first && at + 1 + columns(word) > width) {
      out += "\n" + std::string(indent, ' ');
      at = indent;
    } else if (!is_first) {
      out += " ";
      ++at;
    }
    out += word;
    at += columns(word);
  }
  return out + "\n";
}

std::string row(const std::string& names, const std::string& text, std::size_t width) {
  auto out = "  " + names;
  const auto at = names_width + 2;
  if (text.empty()) return out + "\n";
  if (columns(out) + 2 > at)
    out += "\n" + std::string(at, ' ');
  else
    out += std::string(at - columns(out), ' ');
  return out + wrapped(text, at, at, width);
}

std::string names_of(const argument& a) {
  std::string out;
  for (const auto& name : a.names) out += (out.empty() ? "" : ", ") + name;
  const bool is_place = a.names.front()[0] != '-';
  if (a.is_repeated && is_place) out += " ...";
  return is_place || a.value.empty() ? out : out + " " + value_name(a);
}

std::string text_of(const argument& a) {
  auto out = a.text;
  const auto add = [&](const std::string& more) { out += (out.empty() ? "" : "; ") + more; };
  if (!a.choices.empty())
    add(kind_text(a));
  else if (const auto kind = kind_text(a); kind.find(" from ") != std::string::npos)
    add(kind);
  if (!a.fallback.empty()) out += " [" + a.fallback + "]";
  if (!a.variable.empty()) out += " ($" + a.variable + ")";
  return out;
}

std::string usage(const command& of) {
  auto out = "Usage: " + of.path + " [OPTIONS]";
  for (const auto& one : of.positionals) {
    const auto name = one.names.front() + (one.is_repeated ? " ..." : "");
    out += one.is_required ? " " + name : " [" + name + "]";
  }
  return out + (of.commands.empty() ? "" : " COMMAND") + "\n";
}

template <class List>
std::vector<std::string> groups_of(const List& list) {
  std::vector<std::string> out;
  for (const auto& one : list)
    if (std::find(out.begin(), out.end(), one.group) == out.end()) out.push_back(one.group);
  std::stable_partition(out.begin(), out.end(), [](const auto& g) { return g != rare_group; });
  return out;
}

}  // namespace

std::string help_page(const command& of, bool with_rare, std::size_t width) {
  auto out = wrapped(of.text, 0, 0, width) + usage(of);
  for (const auto& group : groups_of(of.commands)) {
    out += "\n" + group + ":\n";
    for (const auto& one : of.commands)
      if (one.group == group) out += row(one.name(), one.text, width);
  }
  if (!of.positionals.empty()) out += "\nArguments:\n";
  for (const auto& one : of.positionals) out += row(names_of(one), text_of(one), width);
  std::size_t rare = 0;
  for (const auto& group : groups_of(of.options)) {
    const bool is_shown = with_rare || group != rare_group;
    if (is_shown) out += "\n" + group + ":\n";
    for (const auto& one : of.options) {
      if (one.group != group) continue;
      if (is_shown)
        out += row(names_of(one), text_of(one), width);
      else
        ++rare;
    }
  }
  if (rare > 0)
    out += "\n" + wrapped("--help-all shows " + std::to_string(rare) +
                              " more settings. Each setting is also a line of --config and a "
                              "variable: NTRACE_WORKERS is --workers.",
                          0, 0, width);
  if (!of.commands.empty())
    out +=
        "\n" + wrapped("`" + of.path + " COMMAND --help` tells more about a command.", 0, 0, width);
  return out;
}

}  // namespace ntrace::tools
