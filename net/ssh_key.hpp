#pragma once
// The key that a runner shows: an ed25519 or ECDSA key in a file that nobody else can read.
#include <string>

#include "net/ssh_names.hpp"

namespace ntrace::net {

struct private_key {
  std::string text;  ///< An OpenSSH private key that libssh reads without harm.
  public_key shown;  ///< What goes into authorized_keys.
  bool is_encrypted = false;
};

/// Reads an OpenSSH private key (PROTOCOL.key of OpenSSH). ec::bad_key names the file and the
/// command that helps, for a file that is not regular, not ours or root's, readable by others, in
/// another format, damaged, encrypted in a way that libssh cannot read (AES-GCM and
/// ChaCha20-Poly1305 end the process in libssh 0.10), or of a type that is not used: an RSA key has
/// several kinds of signature, and servers refuse the old one.
result<private_key> read_private_key(const std::string& path);

/// What read_private_key finds in the bytes; `path` for its error. Pure.
result<private_key> parse_private_key(std::string_view text, const std::string& path);

}  // namespace ntrace::net
