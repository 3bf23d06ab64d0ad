#pragma once
// What an SSH server says of a git repository, as the ssh(1) of the runner's user is told.
#include <optional>
#include <string_view>

#include "actors/runner/git_remote.hpp"

namespace ntrace::runner {

/// How git calls ssh(1): it asks nobody anything.
inline constexpr const char* git_ssh_command = "ssh -o BatchMode=yes -o ConnectTimeout=15";

/// Where ssh(1) goes by its user's own configuration.
struct ssh_route {
  host_port at;
  bool is_proxied = false;  ///< By ProxyJump or ProxyCommand: `at` cannot be dialled from here.
};
/// Reads what `ssh -G` prints; nothing when it names no host and port.
std::optional<ssh_route> parse_ssh_route(std::string_view text);

/// The first line that begins with "SSH-" in what a server has sent so far. RFC 4253, 4.2: others
/// may stand before it; a server without room for us sends another and hangs up.
bool has_ssh_greeting(std::string_view sent);

/// How `ssh HOST git-upload-pack PATH` ended.
struct ssh_end {
  int exit_code = 0;
  bool has_output = false;    ///< What the repository has, which git's command writes first.
  bool saw_host_key = false;  ///< The key exchange came as far as that.
  std::string said;
};
/// What it means: 255 is ssh's own code. Once it had the server's host key, it is a refusal of that
/// or of ours; before, the server hung up. Any other code is git's on the server.
result<void> ssh_answer(const host_port& at, const ssh_end& end);

/// See ask_git_remote(). A refusal counts once it was met three times, seconds apart. Nothing, too,
/// where it cannot be told. Blocks.
result<void> ask_ssh(const git_location& to, const remote_options& options,
                     const cancellation* stop);

}  // namespace ntrace::runner
