#pragma once
// What the project's own files say of registries: npm's .npmrc, and the files of yarn, pnpm and
// bun, which npm does not read. Every text is hostile; tokens and passwords in them are never
// repeated. Pure.
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "actors/runner/tree_facts.hpp"

namespace ntrace::runner {

/// A setting as npm has it, and where it stands: ".npmrc, line 3 (@corp:registry)".
struct npm_setting {
  std::string key, value;
  std::string named_by;
};

class registry_settings {
public:
  explicit registry_settings(const tree_facts& tree);

  /// By npm's key: `registry`, `@corp:registry`. .npmrc outranks what other managers' files say.
  /// Null where the project says nothing.
  const npm_setting* find(std::string_view key) const;
  /// "registry=…" and "@corp:registry=…" of the files that npm does not read, for its global
  /// configuration, which .npmrc outranks.
  std::vector<std::string> lines_for_npm() const;
  /// One event for each setting of .npmrc that means nothing in a zone: proxies, variables, files
  /// that are not there.
  std::vector<nlohmann::json> notices(const tree_facts& tree) const;

private:
  std::vector<npm_setting> npmrc_, others_;  ///< The last of a key counts.
};

/// The ini format of npm, as far as it has "key = value" before the first section.
std::vector<npm_setting> parse_npmrc(std::string_view text);

}  // namespace ntrace::runner
