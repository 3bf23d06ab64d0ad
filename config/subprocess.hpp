#pragma once
// Programs of the host that we start: git, perf. Bounded in time and output; never through a shell.
#include <optional>
#include <string>
#include <vector>

#include "config/cancellation.hpp"
#include "config/clock.hpp"
#include "config/result.hpp"

namespace ntrace {

struct subprocess_spec {
  std::vector<std::string> argv;            ///< argv[0] is looked up in PATH.
  std::vector<std::string> env;             ///< "NAME=value"; added to a minimal environment.
  std::string cwd;                          ///< Empty: ours.
  std::optional<int> stdout_fd;             ///< Where its output goes; else it is collected.
  std::size_t output_bytes_max = 1u << 20;  ///< Of each collected stream; the rest is dropped.
  milliseconds deadline{60'000};            ///< Then SIGKILL to its process group.
};

struct subprocess_result {
  int exit_code = -1;  ///< -1 when a signal ended it.
  int signal = 0;
  bool timed_out = false;
  bool cancelled = false;
  std::string out, err;
  bool ok() const { return exit_code == 0; }
};

/// Runs it to its end. Blocks the calling thread; never call it on CAF's shared workers.
/// ec::io when it cannot be started.
result<subprocess_result> run_subprocess(const subprocess_spec& spec,
                                         const cancellation* stop = nullptr);

/// Starts it with the given descriptors as 0, 1, 2 (-1: /dev/null) and `pass` open under their own
/// numbers; own process group. Gives its pid: the caller waits for it.
result<int> spawn_subprocess(const subprocess_spec& spec, int in, int out, int err,
                             const std::vector<int>& pass = {});

}  // namespace ntrace
