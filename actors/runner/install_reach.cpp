#include "actors/runner/install_reach.hpp"

#include <algorithm>

#include "actors/runner/install_sources.hpp"
#include "net/http_client.hpp"

namespace ntrace::runner {
namespace {

constexpr std::size_t hosts_max = 256;
constexpr milliseconds question_deadline{15'000};

std::string_view host_of(std::string_view url) {
  if (const auto at = url.find("://"); at != std::string_view::npos) url.remove_prefix(at + 3);
  url = url.substr(0, url.find('/'));
  if (const auto at = url.rfind('@'); at != std::string_view::npos) url.remove_prefix(at + 1);
  if (url.starts_with('[')) return url.substr(0, url.find(']') + 1);
  return url.substr(0, url.find(':'));
}

}  // namespace

void reach_log::note(const std::string& host, const error* failed) {
  const std::lock_guard lock{guard_};
  if (hosts_.size() >= hosts_max && hosts_.count(host) == 0) return;
  hosts_[host] = failed ? outage_of(*failed) : std::nullopt;
}

std::optional<outage> reach_log::unreached() const {
  const std::lock_guard lock{guard_};
  const auto at = std::find_if(hosts_.begin(), hosts_.end(),
                               [](const auto& h) { return h.second.has_value(); });
  return at == hosts_.end() ? std::nullopt : at->second;
}

bool reach_log::has_met(const std::string& url) const {
  const std::lock_guard lock{guard_};
  return hosts_.count(std::string{host_of(url)}) != 0;
}

nlohmann::json event_of(const net::egress_report& e) {
  return {{"level", "error"}, {"step", "install"},    {"host", e.host},     {"port", e.port},
          {"bytes", e.bytes}, {"allowed", e.allowed}, {"message", e.reason}};
}

step_outcome look_for_outage(step_outcome install, const reach_log& reached,
                             const std::string& registry, const std::string& ca_file,
                             const cancellation* stop) {
  if (install.failed.code != ec::install_failed && install.failed.code != ec::timed_out)
    return install;
  auto found = reached.unreached();
  if (!found && reached.has_met(registry)) {
    const auto answer = net::fetch_url({registry, ca_file, 0, question_deadline, true}, stop);
    // Any answer but "not now" is one that the step has had, too. Whether a certificate is trusted,
    // npm judges by its own authorities.
    if (!answer) found = outage_of(answer.error());
    if (found && found->cause == outage_cause::untrusted) found.reset();
  }
  if (!found) return install;
  found->message.insert(0, "npm install failed: ");
  install.failed = to_error(*found);
  return install;
}

result<void> expect_hosts(const tree_facts& tree, const std::string& npm_registry,
                          const std::vector<net::allow_entry>& allow) {
  const auto hosts = package_hosts(tree, npm_registry);
  if (!hosts) return fail(hosts.error());
  return expect_reachable(*hosts, [&allow](const std::string& host, std::uint16_t port) {
    return net::find_allowed(allow, host, port) != nullptr;
  });
}

}  // namespace ntrace::runner
