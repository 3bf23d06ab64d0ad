#include "actors/runner/job_environment.hpp"

#include <unistd.h>

namespace ntrace::runner {
namespace {

constexpr std::string_view global_config = "/tmp/.ntrace-npmrc";

}  // namespace

std::string node_headers_folder() {
  for (const std::string folder : {"/usr/local", "/usr"}) {
    if (::access((folder + "/bin/node").c_str(), X_OK) != 0) continue;
    // The first in the job's PATH is the one that runs.
    const bool has_headers =
        ::access((folder + "/include/node/node_version.h").c_str(), R_OK) == 0 &&
        ::access((folder + "/include/node/config.gypi").c_str(), R_OK) == 0;
    return has_headers ? folder : "";
  }
  return {};
}

std::vector<std::string> install_command(const std::string& npm_registry,
                                         const std::vector<std::string>& more_lines) {
  // --no-save: no lock is written that the project does not have.
  std::vector<std::string> out{
      "sh", "-c",
      "printf '%s\\n' \"$@\" > " + std::string{global_config} + " && exec npm install --no-save",
      "npm", "registry=" + npm_registry,
      // The dispatcher waits for a registry that is away; a worker must not be held for it.
      "fetch-retry-mintimeout=1000", "fetch-retry-maxtimeout=5000"};
  out.insert(out.end(), more_lines.begin(), more_lines.end());
  return out;
}

std::vector<std::string> job_environment(const std::string& work_folder, bool with_network) {
  std::vector<std::string> env{
      "PATH=" + work_folder + "/node_modules/.bin:" + std::string{path_inside},
      "HOME=/home/job",
      "USER=job",
      "LANG=C.UTF-8",
      "TERM=dumb",
      "NTRACE=true",
      "CI=true",
      "npm_config_audit=false",
      "npm_config_fund=false",
      "npm_config_update_notifier=false",
      "npm_config_globalconfig=" + std::string{global_config}};
  if (const auto folder = node_headers_folder(); !folder.empty())
    env.push_back("npm_config_nodedir=" + folder);
  if (!with_network) return env;
  for (const char* name :
       {"https_proxy", "http_proxy", "npm_config_proxy", "npm_config_https_proxy"})
    env.push_back(std::string{name} + "=http://127.0.0.1:3128");
  // The project's own would lead nowhere. npm takes an empty variable for none.
  env.emplace_back("npm_config_noproxy=nothing.invalid");
  // Only here: Node parses them at each start, which would stand in the profile.
  env.emplace_back("NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt");
  return env;
}

}  // namespace ntrace::runner
