#include "actors/runner/registry_settings.hpp"

#include <algorithm>
#include <array>

#include "config/ascii.hpp"

namespace ntrace::runner {
namespace {

constexpr std::size_t settings_max = 256;  // Of one file.
constexpr std::size_t shown_bytes_max = 200;
constexpr std::string_view around = " \t\r";  // A line may end as on Windows.

/// The lines of a text, with their numbers from 1.
template <class Function>
void each_line(std::string_view text, Function function) {
  for (std::size_t number = 1; !text.empty(); ++number) {
    const auto end = std::min(text.find('\n'), text.size());
    function(text.substr(0, end), number);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

bool is_quoted(std::string_view text) {
  return text.size() >= 2 && (text.front() == '"' || text.front() == '\'') &&
         text.back() == text.front();
}

std::string_view unquoted(std::string_view text) {
  text = trimmed(text, around);
  return is_quoted(text) ? text.substr(1, text.size() - 2) : text;
}

/// As npm's module `ini` reads one: a comment ends it, unless it is escaped or quoted.
std::string ini_value(std::string_view raw) {
  raw = trimmed(raw, around);
  if (is_quoted(raw)) return std::string{unquoted(raw)};
  std::string out;
  for (std::size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] == ';' || raw[i] == '#') break;
    if (raw[i] == '\\' && i + 1 < raw.size() &&
        (raw[i + 1] == ';' || raw[i + 1] == '#' || raw[i + 1] == '\\'))
      ++i;
    out += raw[i];
  }
  return std::string{trimmed(out, around)};
}

/// The first http URL of a line, without what stands around it.
std::string url_in(std::string_view line) {
  const auto from = std::min(line.find("https://"), line.find("http://"));
  if (from == line.npos) return {};
  const auto url = line.substr(from);
  return std::string{url.substr(0, url.find_first_of(" \t\r\"',;#}"))};
}

/// "corp" or "@corp" as npm's key; empty for what is no scope.
std::string scoped_key(std::string_view scope) {
  scope = unquoted(scope);
  if (scope.starts_with('@')) scope.remove_prefix(1);
  const bool is_scope = !scope.empty() && std::all_of(scope.begin(), scope.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == '~';
  });
  return is_scope ? "@" + std::string{scope} + ":registry" : "";
}

class other_files {
public:
  explicit other_files(const tree_facts& tree) : tree_{tree} {}

  std::vector<npm_setting> find() {
    each_line(tree_.text(".yarnrc"), [this](auto line, auto number) { on_yarn1(line, number); });
    find_nested(".yarnrc.yml", "npmScopes", "npmRegistryServer");
    find_nested("pnpm-workspace.yaml", "registries", "");
    section_.clear();
    each_line(tree_.text("bunfig.toml"), [this](auto line, auto number) { on_bun(line, number); });
    return std::move(out_);
  }

private:
  void add(std::string key, std::string_view line, const char* file, std::size_t number) {
    auto url = url_in(line);
    // Both names of npm's public registry, which the setting npm_registry stands for.
    for (const std::string_view host : {"registry.yarnpkg.com", "registry.npmjs.org"})
      for (const std::string_view scheme : {"https://", "http://"})
        if (std::string_view{url}.starts_with(scheme) &&
            std::string_view{url}.substr(scheme.size()).starts_with(host))
          return;
    if (key.empty() || url.empty() || out_.size() == settings_max) return;
    auto named_by =
        std::string{file} + ", line " + std::to_string(number) + " (" + key.substr(0, 100) + ")";
    out_.push_back({std::move(key), std::move(url), std::move(named_by)});
  }

  /// registry "URL", or "@corp:registry" "URL".
  void on_yarn1(std::string_view line, std::size_t number) {
    line = trimmed(line, around);
    const auto blank = line.find_first_of(" \t");
    if (line.starts_with('#') || blank == line.npos) return;
    auto key = unquoted(line.substr(0, blank));
    if (key.ends_with(':')) key.remove_suffix(1);
    const auto colon = key.find(":registry");
    if (key == "registry") add("registry", line, ".yarnrc", number);
    if (key.starts_with('@') && colon != key.npos)
      add(scoped_key(key.substr(0, colon)), line, ".yarnrc", number);
  }

  /// YAML as people write it: `block` holds a scope a line, whose URL is beside it or, as `leaf`,
  /// below it. `leaf` at the top is the registry of all others.
  void find_nested(const char* file, std::string_view block, std::string_view leaf) {
    bool is_inside = false;
    std::size_t depth_of_scope = 0;
    std::string scope;
    each_line(tree_.text(file), [&](std::string_view raw, std::size_t number) {
      const auto line = trimmed(raw, around);
      const auto depth = raw.find_first_not_of(" \t");
      const auto colon = line.find(':');
      if (line.empty() || line.starts_with('#') || colon == line.npos) return;
      const auto key = unquoted(line.substr(0, colon));
      if (depth == 0) {
        is_inside = key == block;
        depth_of_scope = 0;
        if (!leaf.empty() && key == leaf) add("registry", line, file, number);
        return;
      }
      if (!is_inside) return;
      if (depth_of_scope == 0) depth_of_scope = depth;
      if (depth == depth_of_scope) {
        scope = key == "default" && leaf.empty() ? "registry" : scoped_key(key);
        if (leaf.empty()) add(scope, line, file, number);
      } else if (!leaf.empty() && key == leaf) {
        add(scope, line, file, number);
      }
    });
  }

  /// [install] registry = "URL" or { url = "URL", … }; [install.scopes] "@corp" = the same.
  void on_bun(std::string_view line, std::size_t number) {
    line = trimmed(line, around);
    if (line.starts_with('[')) {
      section_ = std::string{line.substr(0, line.find(']') + 1)};
      return;
    }
    const auto equals = line.find('=');
    if (line.starts_with('#') || equals == line.npos) return;
    const auto key = unquoted(line.substr(0, equals));
    if (section_ == "[install]" && key == "registry") add("registry", line, "bunfig.toml", number);
    if (section_ == "[install.scopes]") add(scoped_key(key), line, "bunfig.toml", number);
  }

  const tree_facts& tree_;
  std::string section_;
  std::vector<npm_setting> out_;
};

const npm_setting* last_of(const std::vector<npm_setting>& in, std::string_view key) {
  const auto at =
      std::find_if(in.rbegin(), in.rend(), [&](const npm_setting& one) { return one.key == key; });
  return at == in.rend() ? nullptr : &*at;
}

bool is_registry(std::string_view key) { return key == "registry" || key.ends_with(":registry"); }

/// The name in "${NAME}", if there is one.
std::string_view variable_in(std::string_view text) {
  const auto from = text.find("${");
  const auto to = from == text.npos ? from : text.find('}', from);
  if (to == text.npos) return {};
  auto name = text.substr(from + 2, to - from - 2);
  return name.substr(0, name.find_first_of("?:-"));
}

/// Why a setting means nothing in a zone; empty when it means what it says.
std::string why_unused(const npm_setting& one, const tree_facts& tree) {
  constexpr std::array proxies{"proxy", "https-proxy", "http-proxy", "noproxy", "no-proxy"};
  if (std::find(proxies.begin(), proxies.end(), one.key) != proxies.end())
    return "not used: the only way out of a zone is the runner's own proxy";
  if (const auto name = variable_in(one.value); !name.empty() && !is_registry(one.key))
    return "names the variable " + std::string{name.substr(0, shown_bytes_max)} +
           ", which no zone has: npm takes the text as it stands";
  const std::string_view key = one.key;
  const bool is_file = key == "cafile" || key.ends_with(":certfile") || key.ends_with(":keyfile");
  auto path = std::string_view{one.value};
  while (path.starts_with("./")) path.remove_prefix(2);
  if (is_file && !path.empty() && !path.starts_with('/') && !tree.has_file(path))
    return "not used: there is no such file in the source";
  return {};
}

}  // namespace

std::vector<npm_setting> parse_npmrc(std::string_view text) {
  std::vector<npm_setting> out;
  bool is_in_section = false;
  each_line(text, [&](std::string_view raw, std::size_t number) {
    const auto line = trimmed(raw, around);
    const auto equals = line.find('=');
    is_in_section = is_in_section || (line.starts_with('[') && line.ends_with(']'));
    if (is_in_section || line.starts_with('#') || line.starts_with(';') || equals == line.npos ||
        out.size() == settings_max)
      return;
    auto key = ini_value(line.substr(0, equals));
    auto named_by =
        ".npmrc, line " + std::to_string(number) + " (" + key.substr(0, shown_bytes_max) + ")";
    out.push_back({std::move(key), ini_value(line.substr(equals + 1)), std::move(named_by)});
  });
  return out;
}

registry_settings::registry_settings(const tree_facts& tree)
    : npmrc_{parse_npmrc(tree.text(".npmrc"))}, others_{other_files{tree}.find()} {}

const npm_setting* registry_settings::find(std::string_view key) const {
  const auto* own = last_of(npmrc_, key);
  return own ? own : last_of(others_, key);
}

std::vector<std::string> registry_settings::lines_for_npm() const {
  std::vector<std::string> out;
  for (const auto& one : others_) out.push_back(one.key + "=" + one.value);
  return out;
}

std::vector<nlohmann::json> registry_settings::notices(const tree_facts& tree) const {
  std::vector<nlohmann::json> out;
  for (const auto& one : npmrc_) {
    const auto why = why_unused(one, tree);
    if (why.empty() || last_of(npmrc_, one.key) != &one) continue;
    out.push_back({{"level", "warn"},
                   {"code", "npmrc_unused"},
                   {"step", "fetch"},
                   {"message", one.named_by + ": " + why}});
  }
  return out;
}

}  // namespace ntrace::runner
