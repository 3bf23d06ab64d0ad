#pragma once
// Where a run's source comes from, as people write it. Pure.
#include <string>
#include <string_view>

#include "config/result.hpp"

namespace ntrace::runner {

enum class source_kind { dir, git, npm, github };

/// `DIR`, `git+URL#REV`, `npm:NAME@VERSION` or `github:OWNER/REPO@SHA`, taken apart.
struct source_spec {
  source_kind kind = source_kind::dir;
  std::string location;  ///< Folder, URL, package name or OWNER/REPO.
  std::string revision;  ///< Empty for dir.
  std::string name;      ///< The folder that it is unpacked into: the repo's name.
  std::string text;      ///< As it was written.
};

/// ec::bad_argument says what a SPEC looks like. A word without a scheme is a folder.
result<source_spec> parse_source_spec(std::string_view text);

/// The path of an archive's entry made plain ("./a//b/" → "a/b"), after dropping `strip` leading
/// components; empty when nothing is left. ec::source_hostile for absolute paths, "..", control
/// bytes, and what is too long or too deep.
result<std::string> safe_path(std::string_view raw, unsigned strip);

/// ec::source_hostile unless the target of a link at `path` stays inside the source.
result<void> check_link(std::string_view path, std::string_view target);

/// The script of a package.json to profile: benchmark, else benchmarks, else test.
/// ec::no_script with what was looked for; ec::source_failed when it is not JSON.
result<std::string> choose_script(std::string_view package_json);
/// True when `npm install` has something to do: package.json names dependencies or steps of its
/// own, or there is a binding.gyp beside it, which npm builds by itself.
bool needs_install(std::string_view package_json, bool has_binding_gyp);

}  // namespace ntrace::runner
