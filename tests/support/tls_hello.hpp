#pragma once
// The first message of a TLS client, made byte by byte: RFC 8446, sections 4.1.2 and 5.1.
#include <string>
#include <utility>
#include <vector>

namespace ntrace::test {

/// `size` as a number of so many bytes, highest first.
inline std::string big_endian(std::size_t value, int bytes) {
  std::string out;
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(value >> (8 * i) & 255);
  return out;
}

/// The extension that names the server: RFC 6066, section 3.
inline std::pair<std::size_t, std::string> server_name(const std::string& name) {
  const auto entry = big_endian(0, 1) + big_endian(name.size(), 2) + name;
  return {0, big_endian(entry.size(), 2) + entry};
}

/// A ClientHello with these extensions, by number and content.
inline std::string tls_hello(const std::vector<std::pair<std::size_t, std::string>>& extensions) {
  std::string block;
  for (const auto& [type, content] : extensions)
    block += big_endian(type, 2) + big_endian(content.size(), 2) + content;
  const auto body = big_endian(0x0303, 2) + std::string(32, 'r') + big_endian(0, 1) +
                    big_endian(2, 2) + big_endian(0x1301, 2) + big_endian(1, 1) + big_endian(0, 1) +
                    big_endian(block.size(), 2) + block;
  return big_endian(1, 1) + big_endian(body.size(), 3) + body;
}

/// A handshake record around it.
inline std::string tls_record(const std::string& content) {
  return big_endian(0x16, 1) + big_endian(0x0301, 2) + big_endian(content.size(), 2) + content;
}

}  // namespace ntrace::test
