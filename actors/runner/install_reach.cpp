#include "actors/runner/install_reach.hpp"

#include "net/http_client.hpp"

namespace ntrace::runner {
namespace {

constexpr std::size_t hosts_max = 256;
constexpr milliseconds question_deadline{15'000};
constexpr int questions_max = 4;

/// An outage of a registry that answers "not now". Any other answer is one that the step has had,
/// too. Whether a certificate is trusted, npm judges by its own authorities.
std::optional<outage> ask(const std::string& registry, const std::string& ca_file,
                          const cancellation* stop) {
  const auto answer = net::fetch_url({registry, ca_file, 0, question_deadline, true}, stop);
  if (answer) return {};
  auto found = outage_of(answer.error());
  if (found && found->cause == outage_cause::untrusted) found.reset();
  return found;
}

}  // namespace

void reach_log::note(const host_port& at, const error* failed) {
  const std::lock_guard lock{guard_};
  const std::pair key{at.host, at.port};
  if (noted_.size() >= hosts_max && noted_.count(key) == 0) return;
  noted_[key] = failed ? *failed : error{};
}

std::optional<error> reach_log::last(const host_port& at) const {
  const std::lock_guard lock{guard_};
  const auto found = noted_.find({at.host, at.port});
  return found == noted_.end() ? std::nullopt : std::optional{found->second};
}

domain::document event_of(const net::egress_report& e) {
  return domain::document{{{"level", "error"},
                           {"step", "install"},
                           {"host", e.host},
                           {"port", e.port},
                           {"bytes", e.bytes},
                           {"allowed", e.allowed},
                           {"message", e.reason}}};
}

step_outcome look_for_outage(step_outcome install, const reach_log& reached,
                             const std::vector<package_host>& hosts, const std::string& ca_file,
                             const cancellation* stop) {
  if (install.failed.code != ec::install_failed && install.failed.code != ec::timed_out)
    return install;
  error why;
  for (const auto& one : hosts)
    if (const auto noted = reached.last({one.host, one.port}); noted && why.code == ec::none)
      why = *noted;
  int asked = 0;
  for (const auto& one : hosts) {
    if (why.code != ec::none || asked == questions_max) break;
    if (one.url.empty() || !reached.last({one.host, one.port})) continue;
    ++asked;
    if (const auto found = ask(one.url, ca_file, stop)) why = to_error(*found);
  }
  if (why.code == ec::none) return install;
  why.message.insert(0, "npm install failed: ");
  install.failed = std::move(why);
  return install;
}

result<std::vector<package_host>> expect_hosts(const tree_facts& tree,
                                               const std::string& npm_registry,
                                               const std::vector<net::allow_entry>& allow) {
  auto hosts = package_hosts(tree, npm_registry);
  if (!hosts) return hosts;
  const auto fine = expect_reachable(*hosts, [&allow](const std::string& host, std::uint16_t port) {
    return net::find_allowed(allow, host, port) != nullptr;
  });
  if (!fine) return fail(fine.error());
  return hosts;
}

}  // namespace ntrace::runner
