#include "actors/runner/gitmodules.hpp"

#include <algorithm>

#include "config/ascii.hpp"
#include "config/limits.hpp"

namespace ntrace::runner {
namespace {

bool equal_caseless(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    return lower(x) == lower(y);
  });
}

/// A value of git's configuration: quotes are dropped, escapes are taken, a comment ends it.
std::string config_value(std::string_view raw) {
  std::string out;
  bool is_quoted = false;
  std::size_t kept = 0;  // Blanks at the end do not count unless they are quoted.
  for (std::size_t i = 0; i < raw.size(); ++i) {
    char c = raw[i];
    if (c == '"') {
      is_quoted = !is_quoted;
      kept = out.size();
      continue;
    }
    if (!is_quoted && (c == '#' || c == ';')) break;
    if (c == '\\' && i + 1 < raw.size()) {
      c = raw[++i];
      c = c == 'n' ? '\n' : c == 't' ? '\t' : c;
    }
    out += c;
    if (is_quoted || (c != ' ' && c != '\t')) kept = out.size();
  }
  out.resize(kept);
  return out;
}

struct section {
  std::string name;  ///< Empty: not one of a submodule.
  submodule what;
};

/// Takes "[submodule \"NAME\"]" off the line; what is left may be a "key = value". Empty for every
/// other section.
std::string take_section(std::string_view& line) {
  auto head = trimmed(line.substr(1));
  line = {};
  if (!equal_caseless(head.substr(0, 9), "submodule")) return {};
  head = trimmed(head.substr(9));
  if (!head.starts_with('"')) return {};
  std::string name;
  for (std::size_t i = 1; i < head.size(); ++i) {
    if (head[i] == '"') {
      const auto end = head.find(']', i);
      if (end != head.npos) line = trimmed(head.substr(end + 1));
      return name;
    }
    if (head[i] == '\\' && i + 1 < head.size()) ++i;
    name += head[i];
  }
  return {};
}

/// Both are paths of this machine, and the second lies in the folder that holds the first.
bool is_beside(std::string_view parent, std::string_view url) {
  const auto path_of = [](std::string_view at) {
    return at.starts_with("file://") ? at.substr(7) : at;
  };
  auto folder = path_of(parent);
  while (folder.ends_with('/')) folder.remove_suffix(1);
  folder = folder.substr(0, folder.rfind('/') + 1);
  const auto path = path_of(url);
  return path.starts_with(folder) && (std::string{path} + "/").find("/../") == std::string::npos;
}

}  // namespace

std::vector<submodule> parse_gitmodules(std::string_view text) {
  std::vector<section> all;
  section* at = nullptr;
  while (!text.empty()) {
    auto line = trimmed(take_line(text));
    if (line.starts_with('[')) {
      const auto name = take_section(line);
      // A section may stand there in pieces.
      const auto known =
          std::find_if(all.begin(), all.end(), [&](const section& s) { return s.name == name; });
      if (name.empty()) {
        at = nullptr;
      } else if (known != all.end()) {
        at = &*known;
      } else if (all.size() == limits::gitmodules_max) {
        at = nullptr;
      } else {
        at = &all.emplace_back(section{name, {}});
      }
    }
    const auto equals = line.find('=');
    if (!at || line.empty() || line.front() == '#' || line.front() == ';' || equals == line.npos)
      continue;
    const auto key = trimmed(line.substr(0, equals));
    auto value = config_value(trimmed(line.substr(equals + 1)));
    while (value.ends_with('/')) value.pop_back();
    if (equal_caseless(key, "path"))
      at->what.path = std::move(value);
    else if (equal_caseless(key, "url"))
      at->what.url = std::move(value);
  }
  std::vector<submodule> out;
  for (auto& one : all)
    if (!one.what.path.empty() && !one.what.url.empty()) out.push_back(std::move(one.what));
  return out;
}

std::size_t path_of_scp(std::string_view url) {
  const auto colon = url.find(':');
  const auto path = colon == url.npos ? std::string_view{} : url.substr(colon + 1);
  // "x::y" asks for a program of that name.
  const bool is_one = colon > 0 && !path.empty() && colon < url.find('/') &&
                      !path.starts_with(':') && !path.starts_with("//");
  return is_one ? colon + 1 : 0;
}

bool is_on_this_machine(std::string_view url) {
  return url.starts_with('/') || url.starts_with("file:///");
}

std::string resolve_submodule_url(std::string_view parent, std::string_view url) {
  if (!url.starts_with("./") && !url.starts_with("../")) return std::string{url};
  std::string base{parent};
  while (base.ends_with('/')) base.pop_back();
  const auto scheme = base.find("://");
  // Never above the host, nor above the root of a path.
  const auto scp = scheme == base.npos ? path_of_scp(base) : 0;
  const auto floor = scheme == base.npos ? scp : base.find('/', scheme + 3);
  while (!url.empty()) {
    if (url.starts_with("./")) {
      url.remove_prefix(2);
    } else if (url.starts_with("../")) {
      url.remove_prefix(3);
      const auto cut = base.rfind('/');
      if (scp != 0 && (cut == base.npos || cut < scp)) {
        if (base.size() == scp) return {};
        base.resize(scp);  // "host:r" and "../s" are "host:s".
        continue;
      }
      if (cut == base.npos || floor == base.npos || cut < floor) return {};
      base.resize(cut);
    } else {
      break;
    }
  }
  return base + (scp != 0 && base.size() == scp ? "" : "/") + std::string{url};
}

std::string refusal_of_submodule(std::string_view parent, std::string_view url) {
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  if (url.empty() || url.starts_with('-') || std::any_of(url.begin(), url.end(), control))
    return "its URL is none";
  for (const std::string_view scheme : {"https://", "http://", "ssh://"})
    if (url.starts_with(scheme))
      return url.substr(scheme.size()).starts_with('-') ? "its URL is none" : "";
  if (is_on_this_machine(url)) {
    if (!is_on_this_machine(parent)) return "it lies on the disk of its author";
    return is_beside(parent, url) ? "" : "it does not lie in the folder of its repository";
  }
  return path_of_scp(url) != 0 ? "" : "its protocol is not https, http or ssh";
}

}  // namespace ntrace::runner
