#pragma once
// Where `npm install` will take packages from, as the project's own files say; and which of them
// say something that nobody heeds. Every text is hostile; tokens and passwords in them are never
// repeated. Pure.
#include <functional>

#include "actors/runner/tree_facts.hpp"
#include "config/result.hpp"

namespace ntrace::runner {

/// A host that packages come from, and what names it: ".npmrc, line 3 (@corp:registry)".
struct package_host {
  std::string host;  ///< Lower case.
  std::uint16_t port = 443;
  std::string named_by;
  std::string url{};  ///< Of a registry: where it answers, without a user's name and password.
};

/// The hosts that the install needs: those of the project's registries (else `npm_registry`) that a
/// dependency comes from, and of the URLs in package.json and in the lock. Each once, in that
/// order; a host that npm itself puts its registry in the place of is not among them (npm's
/// setting replace-registry-host). ec::install_failed for a registry that is no URL.
result<std::vector<package_host>> package_hosts(const tree_facts& tree,
                                                const std::string& npm_registry);

/// ec::forbidden with what to add to network_allow, unless all may be reached.
result<void> expect_reachable(
    const std::vector<package_host>& hosts,
    const std::function<bool(const std::string& host, std::uint16_t port)>& is_allowed);

/// Events, where something is installed: locks of other package managers, the one that
/// `packageManager` names, and what of .npmrc means nothing in a zone.
std::vector<nlohmann::json> unheeded(const tree_facts& tree);

}  // namespace ntrace::runner
