#include "net/port_owner.hpp"

#include <fmt/core.h>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "config/file.hpp"

namespace ntrace::net {
namespace {

constexpr std::string_view listening = "0A";  // TCP_LISTEN

/// "socket:[INODE]" of the listener, as /proc/PID/fd shows it; empty without one.
std::string listener_of(std::uint16_t port) {
  for (const char* table : {"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"}) {
    std::ifstream in{table};
    std::string line;
    std::getline(in, line);  // Its head.
    while (std::getline(in, line)) {
      // proc(5): number, local address:port, remote address:port, state, queues, timer,
      // retransmissions, user, time-out, inode.
      std::istringstream fields{line};
      std::string number, local, remote, state, skipped, inode;
      fields >> number >> local >> remote >> state;
      for (int i = 0; i < 5; ++i) fields >> skipped;
      fields >> inode;
      const auto colon = local.rfind(':');
      if (state == listening && colon != local.npos &&
          std::stoul("0" + local.substr(colon + 1), nullptr, 16) == port)
        return "socket:[" + inode + "]";
    }
  }
  return {};
}

}  // namespace

std::string port_owner(std::uint16_t port) {
  namespace fs = std::filesystem;
  const auto wanted = listener_of(port);
  std::error_code ignored;
  if (wanted.empty()) return {};
  for (const auto& process : fs::directory_iterator{"/proc", ignored}) {
    const auto pid = process.path().filename().string();
    if (pid.find_first_not_of("0123456789") != pid.npos) continue;
    std::error_code gone;  // A process may end while we look.
    for (fs::directory_iterator fd{process.path() / "fd", gone}, end; !gone && fd != end;
         fd.increment(gone)) {
      std::error_code unread;
      if (fs::read_symlink(fd->path(), unread).string() != wanted) continue;
      auto name = read_file("/proc/" + pid + "/comm", 64).value_or("");
      while (name.ends_with('\n')) name.pop_back();
      return fmt::format("process {} ({})", pid, name);
    }
  }
  return {};
}

}  // namespace ntrace::net
