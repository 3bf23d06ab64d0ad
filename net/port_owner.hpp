#pragma once
// Which process has a port that we wanted.
#include <cstdint>
#include <string>

namespace ntrace::net {

/// "process 123 (nginx)" that listens on the TCP port in our network namespace, from proc(5); empty
/// when it cannot be seen, because it is another user's or there is none.
std::string port_owner(std::uint16_t port);

}  // namespace ntrace::net
