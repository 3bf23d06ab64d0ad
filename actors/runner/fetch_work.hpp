#pragma once
// The fetch step's work: the source, and what its files say of the steps after it.
#include <memory>
#include <string>
#include <vector>

#include "actors/runner/attempt_fsm.hpp"
#include "actors/runner/install_sources.hpp"
#include "actors/runner/source.hpp"
#include "net/egress_policy.hpp"

namespace ntrace::runner {

struct fetched_source {
  step_outcome outcome;
  unique_fd file;                           ///< The bundle, positioned at its start.
  result<std::vector<package_host>> hosts;  ///< See expect_hosts().
  std::vector<std::string> lines_for_npm;   ///< See registry_settings.
};

/// Of the tree's files no more is kept than that: they may be large. Errors are fetch_source()'s.
/// Blocks.
result<std::shared_ptr<fetched_source>> fetch_work(const source_spec& source,
                                                   const source_options& options,
                                                   const std::string& npm_registry,
                                                   const std::vector<net::allow_entry>& allow,
                                                   const cancellation* stop);

}  // namespace ntrace::runner
