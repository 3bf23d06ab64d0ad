#pragma once
// Why a git remote could not be fetched from. Neither git's exit code nor its words tell: the
// remote is asked again, by means that do.
#include "config/cancellation.hpp"
#include "config/clock.hpp"
#include "config/result.hpp"
#include "config/settings.hpp"

namespace ntrace::runner {

enum class remote_kind { http, ssh, local };

/// A location of a source_spec: a URL, or a path.
struct git_location {
  remote_kind kind = remote_kind::local;
  host_port at;  ///< Of ssh; the port is 22 where none is named.
  bool has_port = false;
  std::string user;  ///< Of ssh; empty: ssh's own choice.
  std::string path;  ///< Of ssh, as the server is asked for it, and of local.
};
git_location parse_git_location(const std::string& text);

struct remote_options {
  std::string ca_file;  ///< Empty: the system's.
  milliseconds deadline{15'000};
  std::string scratch;  ///< A folder of the caller's own, for what ssh(1) leaves there.
};

/// Nothing when a repository answers there. An outage (config/outage.hpp) when nothing can be
/// reached; ec::not_found and ec::forbidden are the remote's own words. Blocks.
result<void> ask_git_remote(const std::string& location, const remote_options& options,
                            const cancellation* stop);

}  // namespace ntrace::runner
