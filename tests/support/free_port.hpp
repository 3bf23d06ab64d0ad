#pragma once
// A port for a server that is told its number before it listens.
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "config/file.hpp"

namespace ntrace::test {

/// Nobody listens there on 127.0.0.1, no outgoing connection gets it by chance (Linux takes theirs
/// from 32768 on, ip_local_port_range), and no other process that asks here does while this one
/// lives. 0 when there is none.
inline std::uint16_t free_port() {
  constexpr int from = 10'000, count = 22'000;
  // Held until the process ends: another process that asks for that number is refused the name.
  static std::vector<unique_fd> reserved;
  static int next = ::getpid() % 300 * 64;
  for (int tries = 0; tries < count; ++tries) {
    const int port = from + next++ % count;
    unique_fd name{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un mine{};
    mine.sun_family = AF_UNIX;
    const auto text = "ntrace-test-port-" + std::to_string(port);
    std::memcpy(mine.sun_path + 1, text.data(), text.size());  // Abstract: no file is left.
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
    if (::bind(name.get(), reinterpret_cast<sockaddr*>(&mine), size) != 0) continue;
    const unique_fd probe{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    at.sin_port = htons(static_cast<std::uint16_t>(port));
    if (::bind(probe.get(), reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) continue;
    reserved.push_back(std::move(name));
    return static_cast<std::uint16_t>(port);
  }
  return 0;
}

}  // namespace ntrace::test
