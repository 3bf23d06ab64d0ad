#include "actors/runner/job_environment.hpp"

namespace ntrace::runner {

std::vector<std::string> job_environment(const std::string& work_folder,
                                         const std::string& npm_registry, bool with_network) {
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
      "npm_config_registry=" + npm_registry};
  if (!with_network) return env;
  for (const char* name :
       {"https_proxy", "http_proxy", "npm_config_proxy", "npm_config_https_proxy"})
    env.push_back(std::string{name} + "=http://127.0.0.1:3128");
  // Only here: Node parses them at each start, which would stand in the profile.
  env.emplace_back("NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt");
  return env;
}

}  // namespace ntrace::runner
