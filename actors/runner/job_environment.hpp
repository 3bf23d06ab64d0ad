#pragma once
// The environment variables of what a job runs in its zone. Pure.
#include <string>
#include <string_view>
#include <vector>

namespace ntrace::runner {

inline constexpr std::string_view path_inside = "/usr/local/bin:/usr/bin:/bin";

/// "NAME=value" each. `work_folder`: where the source lies in the zone. `with_network`: for steps
/// that may reach the allow-list proxy.
std::vector<std::string> job_environment(const std::string& work_folder,
                                         const std::string& npm_registry, bool with_network);

}  // namespace ntrace::runner
