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
  host_port at;      ///< Of ssh.
  std::string user;  ///< Of ssh; empty: ssh's own choice.
  std::string path;  ///< Of ssh, as the server is asked for it, and of local.
};
git_location parse_git_location(const std::string& text);

struct remote_options {
  std::string ca_file;  ///< Empty: the system's.
  milliseconds deadline{15'000};
};

/// How git calls ssh(1): it asks nobody anything.
inline constexpr const char* git_ssh_command = "ssh -o BatchMode=yes -o ConnectTimeout=15";

/// What it means that `ssh HOST git-upload-pack PATH` ended so: 255 is ssh's own code, and with a
/// server that speaks SSH it is a refusal, of our key or of the server's; any other is git's on the
/// server, which writes first what the repository has.
result<void> ssh_answer(int exit_code, bool has_output, const std::string& said);

/// Nothing when a repository answers there. An outage (config/outage.hpp) when nothing can be
/// reached; ec::not_found and ec::forbidden are the remote's own words. Blocks.
result<void> ask_git_remote(const std::string& location, const remote_options& options,
                            const cancellation* stop);

}  // namespace ntrace::runner
