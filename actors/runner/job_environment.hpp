#pragma once
// The environment variables of what a job runs in its zone, and how its packages are installed.
#include <string>
#include <string_view>
#include <vector>

namespace ntrace::runner {

inline constexpr std::string_view path_inside = "/usr/local/bin:/usr/bin:/bin";

/// "NAME=value" each. `work_folder`: where the source lies in the zone. `with_network`: for steps
/// that may reach the allow-list proxy.
std::vector<std::string> job_environment(const std::string& work_folder, bool with_network);

/// The command that installs packages, by the project's own lock where it has one. `npm_registry`
/// is written to npm's global configuration first, then `more_lines`; the project's .npmrc outranks
/// both.
std::vector<std::string> install_command(const std::string& npm_registry,
                                         const std::vector<std::string>& more_lines);

/// The folder that holds `bin/node` and its headers, for node-gyp, which else downloads them; empty
/// without headers. /usr is the same in a zone.
std::string node_headers_folder();

}  // namespace ntrace::runner
