#include "net/egress_policy.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "config/ascii.hpp"

namespace ntrace::net {
namespace {

constexpr std::size_t host_bytes_max = 253;  // RFC 1035, section 2.3.4

bool is_plain_host(std::string_view host) {
  if (host.empty() || host.size() > host_bytes_max || host.front() == '.' || host.front() == '-' ||
      host.back() == '.' || host.find("..") != std::string_view::npos)
    return false;
  return std::all_of(host.begin(), host.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
  });
}

result<std::uint16_t> parse_port(std::string_view text) {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size() || text.front() == '0' ||
      port > 65535)
    return fail(ec::bad_request, "bad port \"" + std::string{text.substr(0, 32)} + "\"");
  return static_cast<std::uint16_t>(port);
}

bool is_private_v4(std::uint32_t a) {
  const auto in = [a](std::uint32_t net, int bits) {
    return (a >> (32 - bits)) == (net >> (32 - bits));
  };
  return in(0x00000000, 8) || in(0x0a000000, 8) || in(0x64400000, 10) || in(0x7f000000, 8) ||
         in(0xa9fe0000, 16) || in(0xac100000, 12) || in(0xc0000000, 24) || in(0xc0a80000, 16) ||
         in(0xc6120000, 15) || in(0xe0000000, 4) || in(0xf0000000, 4);
}

bool is_private_v6(const in6_addr& v6) {
  const auto* b = v6.s6_addr;
  const auto embedded = [&](int at) {
    return is_private_v4(static_cast<std::uint32_t>(b[at]) << 24 |
                         static_cast<std::uint32_t>(b[at + 1]) << 16 |
                         static_cast<std::uint32_t>(b[at + 2]) << 8 | b[at + 3]);
  };
  constexpr std::array<std::uint8_t, 12> nat64{0x00, 0x64, 0xff, 0x9b};
  const bool zeros_10 = std::all_of(b, b + 10, [](std::uint8_t x) { return x == 0; });
  if (zeros_10 && b[10] == 0xff && b[11] == 0xff) return embedded(12);  // ::ffff:a.b.c.d
  if (zeros_10 && b[10] == 0 && b[11] == 0) return true;                // ::, ::1, ::a.b.c.d
  if (std::equal(nat64.begin(), nat64.end(), b)) return embedded(12);   // 64:ff9b::/96
  if (b[0] == 0x00 && b[1] == 0x64 && b[2] == 0xff && b[3] == 0x9b) return true;  // 64:ff9b:1::/48
  if (b[0] == 0x20 && b[1] == 0x02) return embedded(2);                           // 6to4
  return (b[0] & 0xfe) == 0xfc || (b[0] == 0xfe && (b[1] & 0xc0) == 0x80) ||
         (b[0] == 0xfe && (b[1] & 0xc0) == 0xc0) || b[0] == 0xff;
}

}  // namespace

result<authority> parse_authority(std::string_view text, std::uint16_t port_default) {
  std::uint16_t port = port_default;
  if (const auto colon = text.rfind(':'); colon != std::string_view::npos) {
    const auto parsed = parse_port(text.substr(colon + 1));
    if (!parsed) return fail(parsed.error());
    port = *parsed;
    text = text.substr(0, colon);
  }
  auto host = lowered(text);
  if (host.ends_with('.')) host.pop_back();
  if (port == 0 || !is_plain_host(host))
    return fail(ec::bad_request, "the proxy takes host names only");
  return authority{std::move(host), port};
}

result<allow_entry> parse_allow_entry(std::string_view text) {
  allow_entry out;
  auto rest = text;
  if (rest.starts_with("*.")) {
    out.with_subdomains = true;
    rest.remove_prefix(2);
  }
  const auto where = parse_authority(rest, 443);
  if (!where)
    return fail(ec::bad_config,
                "\"" + std::string{text} + "\" is not HOST[:PORT] or *.SUFFIX[:PORT]");
  out.host = where->host;
  out.port = where->port;
  return out;
}

const allow_entry* find_allowed(const std::vector<allow_entry>& list, std::string_view host,
                                std::uint16_t port) {
  auto name = lowered(host);
  if (name.ends_with('.')) name.pop_back();
  if (!is_plain_host(name)) return nullptr;
  for (const auto& entry : list) {
    if (entry.port != port) continue;
    const bool hit = entry.with_subdomains
                         ? name.size() > entry.host.size() + 1 && name.ends_with("." + entry.host)
                         : name == entry.host;
    if (hit) return &entry;
  }
  return nullptr;
}

bool is_private_address(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, address, sizeof v4);
    return is_private_v4(ntohl(v4.sin_addr.s_addr));
  }
  if (address->sa_family == AF_INET6) {
    sockaddr_in6 v6;
    std::memcpy(&v6, address, sizeof v6);
    return is_private_v6(v6.sin6_addr);
  }
  return true;
}

}  // namespace ntrace::net
