#include "actors/runner/install_sources.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "actors/runner/source_spec.hpp"
#include "config/json_parse.hpp"
#include "config/limits.hpp"

namespace ntrace::runner {
namespace {

using nlohmann::json;

constexpr std::array sections{"dependencies", "devDependencies", "optionalDependencies",
                              "peerDependencies"};
constexpr std::size_t hosts_max = 64;

std::string_view trimmed(std::string_view text) {
  const auto from = text.find_first_not_of(" \t\r");
  if (from == text.npos) return {};
  return text.substr(from, text.find_last_not_of(" \t\r") - from + 1);
}

/// Host and port of a URL; nothing for another kind of text.
std::optional<package_host> host_of(std::string_view url) {
  package_host out;
  if (url.starts_with("git+")) url.remove_prefix(4);
  if (url.starts_with("https://")) {
    url.remove_prefix(8);
  } else if (url.starts_with("http://")) {
    url.remove_prefix(7);
    out.port = 80;
  } else {
    return {};
  }
  auto authority = url.substr(0, url.find_first_of("/?#"));
  if (const auto at = authority.rfind('@'); at != authority.npos) authority.remove_prefix(at + 1);
  const auto bracket = authority.find(']');
  const auto colon = authority.find(':', bracket == authority.npos ? 0 : bracket);
  if (colon != authority.npos) {
    const auto digits = authority.substr(colon + 1);
    const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), out.port);
    if (read.ec != std::errc{} || read.ptr != digits.data() + digits.size()) return {};
    authority = authority.substr(0, colon);
  }
  for (const char c : authority) {
    const bool is_upper = c >= 'A' && c <= 'Z';
    if (static_cast<unsigned char>(c) <= 0x20 || static_cast<unsigned char>(c) >= 0x7f || c == '"')
      return {};
    out.host += is_upper ? static_cast<char>(c + 32) : c;
  }
  return out.host.empty() ? std::nullopt : std::optional{out};
}

std::string without_user(std::string_view url) {
  const auto from = url.find("://") + 3;
  const auto authority = url.substr(from, url.find_first_of("/?#", from) - from);
  const auto at = authority.rfind('@');
  const auto skipped = at == authority.npos ? 0 : at + 1;
  return std::string{url.substr(0, from)} + std::string{url.substr(from + skipped)};
}

/// A setting of .npmrc, with the line that it stands in.
struct npmrc_value {
  std::string text;
  std::size_t line = 0;
};

/// The ini format of npm, as far as it has "key = value"; the last line of a key counts.
std::map<std::string, npmrc_value, std::less<>> parse_npmrc(std::string_view text) {
  std::map<std::string, npmrc_value, std::less<>> out;
  for (std::size_t line = 1; !text.empty(); ++line) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto one = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    const auto equals = one.find('=');
    if (one.starts_with('#') || one.starts_with(';') || equals == one.npos) continue;
    auto value = trimmed(one.substr(equals + 1));
    if (value.size() >= 2 && (value.front() == '"' || value.front() == '\'') &&
        value.back() == value.front())
      value = value.substr(1, value.size() - 2);
    out[std::string{trimmed(one.substr(0, equals))}] = {std::string{value}, line};
  }
  return out;
}

class host_finder {
public:
  host_finder(const tree_facts& tree, const std::string& npm_registry)
      : tree_{tree}, npmrc_{parse_npmrc(tree.text(".npmrc"))}, setting_{npm_registry} {
    const auto at = npmrc_.find("replace-registry-host");
    replaced_ = at == npmrc_.end() ? "npmjs" : at->second.text;
  }

  result<std::vector<package_host>> find() {
    const auto package = parse_or_discard(tree_.text("package.json"));
    for (const char* section : sections) {
      const auto at = package.is_object() ? package.find(section) : package.end();
      if (!package.is_object() || at == package.end() || !at->is_object()) continue;
      for (const auto& [name, spec] : at->items())
        if (spec.is_string()) add_dependency(name, spec.get_ref<const std::string&>());
    }
    const char* lock =
        tree_.has_file("npm-shrinkwrap.json") ? "npm-shrinkwrap.json" : "package-lock.json";
    const auto locked = parse_or_discard(tree_.text(lock));
    if (const auto at = locked.is_object() ? locked.find("packages") : locked.end();
        locked.is_object() && at != locked.end())
      add_locked(*at, lock);
    else if (locked.is_object())
      add_nested(locked, lock, 0);
    if (problem_.code != ec::none) return fail(problem_);
    return std::move(out_);
  }

private:
  void add(package_host one) {
    const bool is_new = std::none_of(out_.begin(), out_.end(), [&](const package_host& other) {
      return other.host == one.host && other.port == one.port;
    });
    if (is_new && out_.size() < hosts_max) out_.push_back(std::move(one));
  }

  void add_url(std::string_view url, const std::string& named_by) {
    if (auto one = host_of(url)) {
      one->named_by = named_by;
      add(std::move(*one));
    }
  }

  void add_registry(std::string_view url, const std::string& named_by) {
    auto one = host_of(url);
    if (!one) return;
    one->named_by = named_by;
    one->url = without_user(url);
    add(std::move(*one));
  }

  /// The registry that a package of that name comes from.
  void add_registry_of(std::string_view name) {
    auto key = std::string{"registry"};
    if (name.starts_with('@')) {
      const auto scoped = std::string{name.substr(0, name.find('/'))} + ":registry";
      if (npmrc_.count(scoped) != 0) key = scoped;
    }
    const auto own = npmrc_.find(key);
    if (own == npmrc_.end()) return add_registry(setting_, "the setting npm_registry");
    const auto named_by = ".npmrc, line " + std::to_string(own->second.line) + " (" + key + ")";
    if (!host_of(own->second.text) && problem_.code == ec::none)
      problem_ = {ec::install_failed,
                  named_by +
                      " is no URL of a registry; in a zone no variable stands for a part "
                      "of it",
                  {}};
    add_registry(own->second.text, named_by);
  }

  void add_dependency(const std::string& name, std::string_view spec) {
    constexpr std::array on_the_disk{"file:", "link:", "workspace:", "./", "../", "/", "~/"};
    const auto begins = [&](std::string_view word) { return spec.starts_with(word); };
    if (std::any_of(on_the_disk.begin(), on_the_disk.end(), begins)) return;
    if (host_of(spec)) return add_url(spec, "package.json (" + name.substr(0, 200) + ")");
    if (begins("npm:")) return add_registry_of(spec.substr(4));
    // What is left with a colon or a slash lies in some git repository.
    if (spec.find_first_of(":/") == spec.npos) add_registry_of(name);
  }

  bool is_replaced(const std::string& host) const {
    if (replaced_ == "always") return true;
    if (replaced_ == "npmjs") return host == "registry.npmjs.org";
    return replaced_ != "never" && host == replaced_;
  }

  void add_resolved(const json& entry, const std::string& name, const char* lock) {
    const auto at = entry.is_object() ? entry.find("resolved") : entry.end();
    if (!entry.is_object() || at == entry.end() || !at->is_string()) return;
    auto one = host_of(at->get_ref<const std::string&>());
    if (!one || is_replaced(one->host)) return;
    one->named_by = std::string{lock} + " (" + name.substr(0, 200) + ")";
    add(std::move(*one));
  }

  void add_locked(const json& packages, const char* lock) {
    if (!packages.is_object()) return;
    for (const auto& [name, entry] : packages.items()) add_resolved(entry, name, lock);
  }

  /// Of the first version of locks, where dependencies hold dependencies.
  void add_nested(const json& entry, const char* lock, int depth) {
    const auto at = entry.find("dependencies");
    if (at == entry.end() || !at->is_object() || depth > limits::json_depth_max) return;
    for (const auto& [name, one] : at->items()) {
      add_resolved(one, name, lock);
      if (one.is_object()) add_nested(one, lock, depth + 1);
    }
  }

  const tree_facts& tree_;
  std::map<std::string, npmrc_value, std::less<>> npmrc_;
  std::string setting_, replaced_;
  std::vector<package_host> out_;
  error problem_;
};

}  // namespace

result<std::vector<package_host>> package_hosts(const tree_facts& tree,
                                                const std::string& npm_registry) {
  return host_finder{tree, npm_registry}.find();
}

result<void> expect_reachable(
    const std::vector<package_host>& hosts,
    const std::function<bool(const std::string& host, std::uint16_t port)>& is_allowed) {
  std::string named, entries;
  for (const auto& one : hosts) {
    if (is_allowed(one.host, one.port)) continue;
    const auto entry = one.host + ":" + std::to_string(one.port);
    named += (named.empty() ? "" : "; ") + one.named_by + " names " + entry;
    entries += (entries.empty() ? "\"" : ", \"") + entry + "\"";
  }
  if (named.empty()) return {};
  return fail(ec::forbidden, "the install needs a host that network_allow does not list: " + named +
                                 "; to allow it add " + entries + " to the setting network_allow");
}

std::vector<json> unheeded(const tree_facts& tree) {
  std::string found;
  for (const char* lock : {"yarn.lock", "pnpm-lock.yaml", "pnpm-workspace.yaml", "bun.lock",
                           "bun.lockb", "deno.lock", "shrinkwrap.yaml"})
    if (tree.has_file(lock)) found += (found.empty() ? "" : ", ") + std::string{lock};
  const auto package = parse_or_discard(tree.text("package.json"));
  if (package.is_object())
    if (const auto at = package.find("packageManager"); at != package.end() && at->is_string())
      if (const auto name = at->get<std::string>(); !name.starts_with("npm@"))
        found += (found.empty() ? "" : ", ") + ("packageManager " + name.substr(0, 100));
  if (found.empty() || !needs_install(tree.text("package.json"), tree.has_file("binding.gyp")))
    return {};
  return {
      {{"level", "warn"},
       {"code", "lock_unused"},
       {"step", "fetch"},
       {"message", found + ": not used, npm installs the packages" +
                       (tree.has_file("package-lock.json") || tree.has_file("npm-shrinkwrap.json")
                            ? " by its own lock"
                            : " in the versions that package.json allows today")}}};
}

}  // namespace ntrace::runner
