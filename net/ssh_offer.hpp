#pragma once
// What an SSH server offers for the key exchange, and what of it is not in common with ours. Pure.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ntrace::net {

/// The lists of methods, separated by commas, the preferred first.
struct ssh_offer {
  std::string key_exchanges, host_keys, ciphers, macs;
};

/// The server's offer for both directions; ciphers and MACs are those that it has for both. Nothing
/// unless `packet` begins with a whole SSH_MSG_KEXINIT (RFC 4253, sections 6 and 7.1): one that was
/// damaged must not look like an offer.
std::optional<ssh_offer> parse_offer(std::string_view packet);

struct mismatch {
  std::string what;  ///< "host key", "key exchange", "cipher" or "MAC".
  std::string ours, theirs;
  /// "pinned ssh-ed25519, the server offers ecdsa-sha2-nistp256, rsa-sha2-512".
  std::string sentence(bool is_pinned) const;
};

/// The kinds of which the two share no method, the host key first. A MAC counts only beside a
/// cipher that needs one. Empty when the exchange can go on.
std::vector<mismatch> mismatches(const ssh_offer& ours, const ssh_offer& theirs);

}  // namespace ntrace::net
