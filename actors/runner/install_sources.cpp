#include "actors/runner/install_sources.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "actors/runner/registry_settings.hpp"
#include "actors/runner/source_spec.hpp"
#include "config/json_parse.hpp"
#include "config/limits.hpp"

namespace ntrace::runner {
namespace {

using nlohmann::json;

constexpr std::array sections{"dependencies", "devDependencies", "optionalDependencies",
                              "peerDependencies"};
constexpr std::size_t hosts_max = 64;

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

/// What begins a line of yarn's first lock format that says where a package lies.
constexpr std::string_view yarn_resolved = "  resolved \"";

/// npm takes versions and places from a lock of that format where the project has none of its own.
bool has_yarn_lock_for_npm(const tree_facts& tree) {
  return !tree.has_file("package-lock.json") && !tree.has_file("npm-shrinkwrap.json") &&
         ("\n" + tree.text("yarn.lock")).find("\n" + std::string{yarn_resolved}) !=
             std::string::npos;
}

class host_finder {
public:
  host_finder(const tree_facts& tree, const std::string& npm_registry)
      : tree_{tree}, own_{tree}, setting_{npm_registry} {
    const auto* at = own_.find("replace-registry-host");
    replaced_ = at ? at->value : "npmjs";
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
    if (has_yarn_lock_for_npm(tree_)) add_yarn_locked();
    if (problem_.code != ec::none) return fail(problem_);
    return std::move(out_);
  }

private:
  void add(package_host one) {
    const auto known = std::find_if(out_.begin(), out_.end(), [&](const package_host& other) {
      return other.host == one.host && other.port == one.port;
    });
    if (known == out_.end() && out_.size() < hosts_max)
      out_.push_back(std::move(one));
    else if (known != out_.end() && known->url.empty())
      known->url = std::move(one.url);
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
    const npm_setting* own = nullptr;
    if (name.starts_with('@'))
      own = own_.find(std::string{name.substr(0, name.find('/'))} + ":registry");
    if (!own) own = own_.find("registry");
    if (!own) return add_registry(setting_, "the setting npm_registry");
    const bool has_variable = own->value.find("${") != std::string::npos;
    if ((has_variable || !host_of(own->value)) && problem_.code == ec::none)
      problem_ = {
          ec::install_failed,
          own->named_by + " is no URL of a registry; in a zone no variable stands for a part of it",
          {}};
    add_registry(own->value, own->named_by);
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

  void add_yarn_locked() {
    const std::string_view text = tree_.text("yarn.lock");
    std::size_t line = 1;
    for (std::size_t at = 0; at < text.size(); ++line) {
      const auto end = std::min(text.find('\n', at), text.size());
      const auto one = text.substr(at, end - at);
      at = end + 1;
      if (!one.starts_with(yarn_resolved)) continue;
      auto host = host_of(one.substr(yarn_resolved.size(), one.rfind('"') - yarn_resolved.size()));
      // npm reads yarn's name of its registry as its own.
      if (!host || host->host == "registry.yarnpkg.com" || is_replaced(host->host)) continue;
      host->named_by = "yarn.lock, line " + std::to_string(line);
      add(std::move(*host));
    }
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
  registry_settings own_;
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
  if (!needs_install(tree.text("package.json"), tree.has_file("binding.gyp"))) return {};
  auto out = registry_settings{tree}.notices(tree);
  const bool has_npm_lock =
      tree.has_file("package-lock.json") || tree.has_file("npm-shrinkwrap.json");
  const bool has_yarn_lock = has_yarn_lock_for_npm(tree);
  std::string found;
  for (const char* lock : {"yarn.lock", "pnpm-lock.yaml", "pnpm-workspace.yaml", "bun.lock",
                           "bun.lockb", "deno.lock", "shrinkwrap.yaml"})
    if (tree.has_file(lock) && !(has_yarn_lock && std::string_view{lock} == "yarn.lock"))
      found += (found.empty() ? "" : ", ") + std::string{lock};
  const auto package = parse_or_discard(tree.text("package.json"));
  if (package.is_object())
    if (const auto at = package.find("packageManager"); at != package.end() && at->is_string())
      if (const auto name = at->get<std::string>(); !name.starts_with("npm@"))
        found += (found.empty() ? "" : ", ") + ("packageManager " + name.substr(0, 100));
  if (found.empty()) return out;
  out.push_back({{"level", "warn"},
                 {"code", "lock_unused"},
                 {"step", "fetch"},
                 {"message", found + ": not used, npm installs the packages" +
                                 (has_npm_lock    ? " by its own lock"
                                  : has_yarn_lock ? " by yarn.lock"
                                                  : " in the versions that package.json allows "
                                                    "today")}});
  return out;
}

}  // namespace ntrace::runner
