#pragma once
// What names an SSH server and its keys: addresses, key blobs, fingerprints. Pure.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "config/host_port.hpp"
#include "config/result.hpp"

namespace ntrace::net {

/// Where a tunnel goes: ssh://USER@HOST[:PORT].
struct ssh_target {
  std::string user;
  host_port at;  ///< Port 22 when none is given.
  std::string text() const { return "ssh://" + user + "@" + at.text(); }
};

/// ec::bad_config for anything but ssh://USER@HOST[:PORT]; an IPv6 address stands in brackets.
result<ssh_target> parse_ssh_target(std::string_view text);

/// A public key as the wire carries it (RFC 4253, section 6.6), and what is shown of it.
struct public_key {
  std::string type;  ///< "ssh-ed25519", as the blob itself says.
  std::string blob;
  bool operator==(const public_key&) const = default;
};

/// Reads a blob's type; nothing for what is not a key blob or longer than 16 KiB.
std::optional<public_key> parse_key_blob(std::string_view blob);

/// "TYPE BASE64", as known_hosts and authorized_keys have it.
std::string key_text(const public_key& key);

/// "SHA256:…" as `ssh-keygen -l` shows it.
std::string fingerprint(const public_key& key);

/// Reads the strings, numbers and bytes of RFC 4251, section 5; nothing at the end of the bytes.
class ssh_reader {
public:
  explicit ssh_reader(std::string_view bytes) : rest_{bytes} {}
  std::optional<std::uint32_t> number();
  std::optional<std::string_view> string();
  std::string_view rest() const { return rest_; }

private:
  std::string_view rest_;
};

/// Appends in the form that ssh_reader reads.
void put_number(std::string& out, std::uint32_t value);
void put_string(std::string& out, std::string_view value);

}  // namespace ntrace::net
