#pragma once
// New keys: the pair that `ntrace tunnel keygen` makes.
#include <string>

#include "net/ssh_names.hpp"

namespace ntrace::net {

struct key_pair {
  std::string private_text;  ///< An OpenSSH private key, not encrypted.
  public_key shown;
};

/// A new ed25519 key pair, by libssh. ec::defect without entropy.
result<key_pair> make_ed25519_key();

/// Writes `path` (mode 0600) and `path`.pub; ec::bad_key when either is there already. The comment
/// stands in the latter alone: libssh 0.10 writes none into a private file.
result<public_key> write_new_key(const std::string& path, const std::string& comment);

}  // namespace ntrace::net
