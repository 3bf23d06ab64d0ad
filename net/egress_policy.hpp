#pragma once
// What a job in a zone may reach while its install step runs. Pure: names and addresses in,
// verdicts out. docs/zones.md, "Network".
#include <netinet/in.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "config/result.hpp"

namespace ntrace::net {

struct authority {
  std::string host;  ///< Lower case, without a final dot.
  std::uint16_t port = 0;
};

/// "HOST[:PORT]"; without a port it is `port_default`, and 0 asks for one. ec::bad_request for a
/// host that is no plain name and for a port that is not 1 to 65535.
result<authority> parse_authority(std::string_view text, std::uint16_t port_default);

/// One line of the allow-list: an exact host, or `*.suffix` for one label or more below it.
struct allow_entry {
  std::string host;  ///< Lower case, without a final dot.
  bool with_subdomains = false;
  std::uint16_t port = 443;
  bool allow_private = false;  ///< May resolve to loopback, private or link-local addresses.
};

/// "HOST", "HOST:PORT" or "*.SUFFIX[:PORT]"; ec::bad_config otherwise.
result<allow_entry> parse_allow_entry(std::string_view text);

/// The entry that lets host:port through, or null. Case and one final dot do not matter; literal
/// addresses match only an entry with exactly their text.
const allow_entry* find_allowed(const std::vector<allow_entry>& list, std::string_view host,
                                std::uint16_t port);

/// True for an address that a job may never reach unless its entry says allow_private: loopback,
/// private, link-local, multicast, unspecified, carrier-grade NAT, and IPv6 forms that embed one.
bool is_private_address(const sockaddr* address);

}  // namespace ntrace::net
