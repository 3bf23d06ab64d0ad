#pragma once
// What an SSH server says before its keys are in use, byte by byte.
#include <string>
#include <vector>

#include "net/ssh_names.hpp"

namespace ntrace::test {

/// A packet (RFC 4253, section 6) without cipher and MAC.
inline std::string ssh_packet(const std::string& message) {
  // At least 4 bytes, up to a multiple of 8.
  const auto padding = 4 + (8 - (message.size() + 5 + 4) % 8) % 8;
  std::string out;
  net::put_number(out, static_cast<std::uint32_t>(message.size() + 1 + padding));
  out += static_cast<char>(padding);
  return out + message + std::string(padding, '\0');
}

/// SSH_MSG_KEXINIT (RFC 4253, section 7.1) that offers one method of each kind.
inline std::string key_exchange_offer(const std::string& exchange, const std::string& host_key,
                                      const std::string& cipher, const std::string& mac) {
  std::string message(1, '\x14');
  message += std::string(16, 'c');
  for (const auto& list : std::vector<std::string>{exchange, host_key, cipher, cipher, mac, mac,
                                                   "none", "none", "", ""})
    net::put_string(message, list);
  return ssh_packet(message + std::string(5, '\0'));
}

}  // namespace ntrace::test
