#pragma once
// The pinned host keys: a file in the format of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT", read by
// ourselves, because a library skips in silence what it does not know, and an operator wants the
// file and the line. Pure, but for trust_host_key.
#include <string>
#include <vector>

#include "net/ssh_names.hpp"

namespace ntrace::net {

enum class host_key_verdict { match, unknown, changed, revoked };

struct host_key_check {
  host_key_verdict verdict = host_key_verdict::unknown;
  /// Of changed and revoked: the line that says so, from 1, and the key it pins.
  unsigned line = 0;
  public_key pinned{};
};

class known_hosts {
public:
  /// Plain and hashed names, `[host]:port` for ports other than 22, @revoked. ec::bad_key names
  /// `path` and the line for what cannot be held: @cert-authority, wildcards, negations, damage.
  static result<known_hosts> parse(std::string_view text, const std::string& path);
  /// The file at `path`; one that is not there is empty.
  static result<known_hosts> load(const std::string& path);

  host_key_check check(const host_port& at, const public_key& shown) const;
  /// The key types that are pinned for the server, in the file's order: what it is asked for, or a
  /// server with a second key would look like an unknown one.
  std::vector<std::string> types_of(const host_port& at) const;

private:
  struct entry {
    unsigned line;
    std::vector<std::string> names;  ///< "host", "[host]:port" or "|1|salt|hash".
    bool is_revoked;
    public_key key;
  };
  static bool names(const entry& e, const std::string& name);
  std::vector<entry> entries_;
};

/// The line that pins a key.
std::string known_hosts_line(const host_port& at, const public_key& key);

/// Adds the line durably, once. Lines for the same server stay: people must correct `changed`.
result<void> trust_host_key(const std::string& path, const host_port& at, const public_key& key);

}  // namespace ntrace::net
