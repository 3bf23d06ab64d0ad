#pragma once
// What a job in a zone may reach while its install step runs. Pure: names, addresses and the heads
// of proxy requests in, verdicts out. docs/zones.md, "Network".
#include <netinet/in.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "config/result.hpp"

namespace ntrace::net {

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

/// The head of one proxy request, as far as the proxy needs it.
struct proxy_request {
  bool is_connect = false;
  std::string method;
  std::string host;  ///< Lower case.
  std::uint16_t port = 0;
  std::string forward_head;  ///< absolute-form: the head to send upstream.
  std::uint64_t body_bytes = 0;
};

/// Parses a whole head (up to and including the blank line). ec::bad_request for what is malformed
/// or ambiguous (both lengths, userinfo, control bytes, hosts that are not plain names).
result<proxy_request> parse_proxy_head(std::string_view head);

/// The server name of a TLS ClientHello at the start of `bytes`; empty when there is none; fails
/// with ec::bad_request when the bytes are not a ClientHello. `complete` tells whether the record
/// is whole; when false, feed more bytes.
result<std::string> client_hello_name(std::string_view bytes, bool& complete);

}  // namespace ntrace::net
