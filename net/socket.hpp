#pragma once
// TCP sockets for code that blocks on its own thread.
#include <string>

#include "config/cancellation.hpp"
#include "config/clock.hpp"
#include "config/file.hpp"
#include "config/settings.hpp"

namespace ntrace::net {

/// Connects within `deadline`, trying every address. ec::unreachable names the address and cause.
result<unique_fd> connect_tcp(const host_port& to, milliseconds deadline);

/// Waits until `fd` is readable (or writable); false at the deadline or when `stop` is raised.
bool wait_ready(int fd, bool for_write, milliseconds deadline, const cancellation* stop = nullptr);

/// Sends all bytes on a non-blocking or blocking socket; false on error or at the deadline.
bool send_all(int fd, std::string_view data, milliseconds deadline);

}  // namespace ntrace::net
