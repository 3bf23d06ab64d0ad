#pragma once
// Fetches a source into a bundle: from a folder, a git repository, the npm registry or GitHub.
#include "actors/runner/bundle.hpp"
#include "actors/runner/source_spec.hpp"
#include "config/clock.hpp"
#include "config/setting_table.hpp"
#include "net/egress_policy.hpp"

namespace ntrace::runner {

struct source_options {
  std::string npm_registry{npm_address};
  std::string github_url{github_address};
  std::string ca_file;           ///< Empty: the system's authorities.
  std::string scratch = "/tmp";  ///< For temporary repositories and the bundle.
  milliseconds deadline{120'000};
  std::vector<net::allow_entry> allow{};  ///< Whose private addresses a submodule may name.
};

/// Blocks. What cannot be reached is an outage (config/outage.hpp); what the remote says for good
/// is ec::not_found or forbidden; else source_failed, source_hostile, source_limit, cancelled or
/// timed_out, each saying what to do. Leaves nothing in `scratch`.
result<bundle> fetch_source(const source_spec& spec, const source_options& options,
                            const cancellation* stop);

}  // namespace ntrace::runner
