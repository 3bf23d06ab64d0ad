#pragma once
// Where something listens: HOST:PORT.
#include <cstdint>
#include <string>
#include <string_view>

#include "config/result.hpp"

namespace ntrace {

struct host_port {
  std::string host;
  std::uint16_t port = 0;
  std::string text() const { return host + ":" + std::to_string(port); }
};

/// "HOST:PORT", "[::1]:PORT" or "PORT" (then 127.0.0.1).
result<host_port> parse_host_port(std::string_view text);

}  // namespace ntrace
