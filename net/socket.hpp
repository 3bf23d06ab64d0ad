#pragma once
// TCP sockets for code that blocks on its own thread.
#include <netinet/in.h>

#include <optional>
#include <string>
#include <vector>

#include "config/cancellation.hpp"
#include "config/clock.hpp"
#include "config/file.hpp"
#include "config/host_port.hpp"

namespace ntrace::net {

struct socket_address {
  sockaddr_storage value{};
  socklen_t size = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&value); }
};
using socket_addresses = std::vector<socket_address>;

/// Asks the system once; a code of getaddrinfo(3), 0 with addresses in `out`. Blocks. `flags`: its
/// ai_flags.
int look_up(const host_port& name, int flags, socket_addresses& out);

/// Connects within `deadline`, trying every address. ec::unreachable names the address and cause.
result<unique_fd> connect_tcp(const host_port& to, milliseconds deadline);

/// A non-blocking listener. SO_REUSEADDR, because a connection of before in TIME_WAIT is no reason
/// not to serve. ec::unreachable names the address when it is taken or not ours.
result<unique_fd> listen_tcp(const host_port& at, int backlog);

/// An IPv4 address in digits; nothing for names and other families.
std::optional<sockaddr_in> numeric_address(const host_port& at);

/// What is sent and not acknowledged for so long ends the connection (tcp(7), TCP_USER_TIMEOUT).
void limit_unacknowledged(int fd, milliseconds longest);

/// Waits until `fd` is readable (or writable); false at the deadline or when `stop` is raised.
bool wait_ready(int fd, bool for_write, milliseconds deadline, const cancellation* stop = nullptr);

/// Sends all bytes on a non-blocking or blocking socket; false on error or at the deadline.
bool send_all(int fd, std::string_view data, milliseconds deadline);

}  // namespace ntrace::net
