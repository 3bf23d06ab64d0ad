#pragma once
// Network namespaces that a test or a chaos run made which was killed, and so could not take them
// away. Without a test framework, for chaos runs, too.
#include <signal.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <sstream>
#include <string>
#include <string_view>

#include "config/subprocess.hpp"

namespace ntrace::test {

/// Best effort: what ip(8) does not delete is in nobody's way.
inline void remove_network(const std::string& name) {
  subprocess_spec spec;
  spec.argv = {"ip", "netns", "delete", name};
  [[maybe_unused]] const auto done = run_subprocess(spec);
}

/// Removes those named `<prefix><pid>-…` whose process is gone, and what still lives in them, such
/// as a session of an sshd whose other end was cut off.
inline void remove_stale_networks(std::string_view prefix) {
  std::error_code ignored;  // No folder, no namespaces.
  for (const auto& at : std::filesystem::directory_iterator{"/run/netns", ignored}) {
    const auto name = at.path().filename().string();
    if (!name.starts_with(prefix)) continue;
    int pid = 0;
    const auto [end, code] =
        std::from_chars(name.data() + prefix.size(), name.data() + name.size(), pid);
    if (code == std::errc{} && *end == '-' && pid > 0 && ::kill(pid, 0) != 0 && errno == ESRCH) {
      subprocess_spec spec;
      spec.argv = {"ip", "netns", "pids", name};
      const auto inside = run_subprocess(spec);
      std::istringstream pids{inside ? inside->out : ""};
      for (int one = 0; pids >> one;) ::kill(one, SIGKILL);
      remove_network(name);
    }
  }
}

}  // namespace ntrace::test
