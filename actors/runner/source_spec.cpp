#include "actors/runner/source_spec.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "config/json_parse.hpp"
#include "config/limits.hpp"

namespace ntrace::runner {
namespace {

bool is_plain(std::string_view s, std::string_view extra) {
  return !s.empty() && s.front() != '-' && std::all_of(s.begin(), s.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           extra.find(c) != std::string_view::npos;
  });
}

auto bad(std::string_view text, const std::string& why) {
  return fail(ec::bad_argument,
              "\"" + std::string{text} + "\" is not a source: " + why +
                  "; use DIR, git+URL#REV, npm:NAME@VERSION or github:OWNER/REPO@SHA");
}

/// The last part of a path or URL without ".git", as a folder's name.
std::string base_name(std::string_view path) {
  while (path.ends_with('/')) path.remove_suffix(1);
  auto name = path.substr(
      path.find_last_of("/:") == std::string_view::npos ? 0 : path.find_last_of("/:") + 1);
  if (name.ends_with(".git")) name.remove_suffix(4);
  return is_plain(name, "._-") && name != "." && name != ".." ? std::string{name} : "source";
}

result<source_spec> parse_git(std::string_view text) {
  const auto hash = text.rfind('#');
  if (hash == std::string_view::npos) return bad(text, "git+URL needs #REV");
  source_spec out{source_kind::git, std::string{text.substr(4, hash - 4)},
                  std::string{text.substr(hash + 1)}, "", std::string{text}};
  constexpr std::array<std::string_view, 4> schemes{"https://", "http://", "ssh://", "file:///"};
  const bool known = out.location.starts_with('/') ||
                     std::any_of(schemes.begin(), schemes.end(),
                                 [&](auto s) { return out.location.starts_with(s); });
  if (!known) return bad(text, "the URL must begin with https://, http://, ssh://, file:/// or /");
  if (!is_plain(out.revision, "._-/") || out.revision.find("..") != std::string::npos)
    return bad(text, "REV is not a commit, tag or branch");
  out.name = base_name(out.location);
  return out;
}

result<source_spec> parse_npm(std::string_view text) {
  const auto at = text.rfind('@');
  if (at == std::string_view::npos || at <= 5) return bad(text, "npm:NAME needs @VERSION");
  source_spec out{source_kind::npm, std::string{text.substr(4, at - 4)},
                  std::string{text.substr(at + 1)}, "", std::string{text}};
  std::string_view name = out.location;
  if (name.starts_with('@')) {
    const auto slash = name.find('/');
    if (slash == std::string_view::npos || !is_plain(name.substr(1, slash - 1), "._-"))
      return bad(text, "bad scope");
    name = name.substr(slash + 1);
  }
  if (!is_plain(name, "._-") || name.starts_with('.')) return bad(text, "bad package name");
  if (!is_plain(out.revision, ".+-_")) return bad(text, "VERSION must be one version or tag");
  out.name = std::string{name};
  return out;
}

result<source_spec> parse_github(std::string_view text) {
  const auto body = text.substr(7);
  const auto slash = body.find('/');
  const auto at = body.rfind('@');
  if (slash == std::string_view::npos || at == std::string_view::npos || at < slash)
    return bad(text, "github: needs OWNER/REPO@SHA");
  const auto owner = body.substr(0, slash);
  const auto repo = body.substr(slash + 1, at - slash - 1);
  const auto sha = body.substr(at + 1);
  if (!is_plain(owner, "._-") || !is_plain(repo, "._-") || repo == "." || repo == ".." ||
      !is_plain(sha, "._-"))
    return bad(text, "bad OWNER, REPO or SHA");
  return source_spec{source_kind::github, std::string{body.substr(0, at)}, std::string{sha},
                     std::string{repo}, std::string{text}};
}

}  // namespace

result<source_spec> parse_source_spec(std::string_view text) {
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  if (text.empty() || text.size() > limits::path_bytes_max ||
      std::any_of(text.begin(), text.end(), control))
    return bad(text.substr(0, 64), "empty, too long or with control bytes");
  if (text.starts_with("git+")) return parse_git(text);
  if (text.starts_with("npm:")) return parse_npm(text);
  if (text.starts_with("github:")) return parse_github(text);
  if (const auto colon = text.find(':'); colon < text.find('/'))
    return bad(text, "no kind of source begins so (a folder with a colon in its name needs ./)");
  return source_spec{source_kind::dir, std::string{text}, "", base_name(text), std::string{text}};
}

result<std::string> safe_path(std::string_view raw, unsigned strip) {
  const auto hostile = [&](const char* why) {
    return fail(ec::source_hostile,
                "the source holds \"" + std::string{raw.substr(0, 200)} + "\", which " + why);
  };
  if (raw.size() > limits::path_bytes_max) return hostile("is too long");
  if (raw.starts_with('/')) return hostile("is an absolute path");
  std::string out;
  std::size_t depth = 0;
  auto rest = raw;
  while (!rest.empty()) {
    const auto slash = rest.find('/');
    const auto part = rest.substr(0, slash);
    rest.remove_prefix(slash == std::string_view::npos ? rest.size() : slash + 1);
    if (part.empty() || part == ".") continue;
    if (part == "..") return hostile("leaves the work folder");
    if (part.size() > 255) return hostile("has a name that is too long");
    if (std::any_of(part.begin(), part.end(),
                    [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }))
      return hostile("has control bytes");
    if (strip > 0) {
      --strip;
      continue;
    }
    if (++depth > limits::source_depth_max) return hostile("is too deep");
    out.append(out.empty() ? "" : "/").append(part);
  }
  return out;
}

result<void> check_link(std::string_view path, std::string_view target) {
  const auto hostile = [&] {
    return fail(ec::source_hostile, "the link \"" + std::string{path.substr(0, 200)} + "\" → \"" +
                                        std::string{target.substr(0, 200)} +
                                        "\" leaves the work folder");
  };
  if (target.empty() || target.size() >= limits::path_bytes_max || target.starts_with('/') ||
      target.find('\0') != std::string_view::npos)
    return hostile();
  auto depth = std::count(path.begin(), path.end(), '/');
  while (!target.empty()) {
    const auto slash = target.find('/');
    const auto part = target.substr(0, slash);
    target.remove_prefix(slash == std::string_view::npos ? target.size() : slash + 1);
    if (part == "..") {
      if (--depth < 0) return hostile();
    } else if (!part.empty() && part != ".") {
      ++depth;
    }
  }
  return {};
}

result<std::string> choose_script(std::string_view package_json) {
  const auto value = parse_or_discard(package_json);
  if (!value.is_object()) return fail(ec::source_failed, "package.json is not a JSON object");
  const auto scripts = value.find("scripts");
  for (const char* name : {"benchmark", "benchmarks", "test"})
    if (scripts != value.end() && scripts->is_object() && scripts->contains(name) &&
        (*scripts)[name].is_string() && !(*scripts)[name].get_ref<const std::string&>().empty())
      return std::string{name};
  return fail(ec::no_script,
              "package.json has no script benchmark, benchmarks or test: add one of them");
}

bool needs_install(std::string_view package_json, bool has_binding_gyp) {
  const auto value = parse_or_discard(package_json);
  if (!value.is_object()) return false;
  if (has_binding_gyp && (!value.contains("gypfile") || value["gypfile"] != false)) return true;
  for (const char* key : {"dependencies", "devDependencies", "optionalDependencies",
                          "peerDependencies", "workspaces"})
    if (const auto at = value.find(key); at != value.end() && !at->empty()) return true;
  const auto scripts = value.find("scripts");
  for (const char* key : {"preinstall", "install", "postinstall", "prepare"})
    if (scripts != value.end() && scripts->is_object() && scripts->contains(key)) return true;
  return false;
}

}  // namespace ntrace::runner
