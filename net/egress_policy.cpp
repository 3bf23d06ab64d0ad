#include "net/egress_policy.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

namespace ntrace::net {
namespace {

constexpr std::size_t host_bytes_max = 253;  // RFC 1035, section 2.3.4

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string lowered(std::string_view text) {
  std::string out{text};
  std::transform(out.begin(), out.end(), out.begin(), lower);
  return out;
}

bool is_plain_host(std::string_view host) {
  if (host.empty() || host.size() > host_bytes_max || host.front() == '.' || host.front() == '-')
    return false;
  return std::all_of(host.begin(), host.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
  });
}

result<std::uint16_t> parse_port(std::string_view text) {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size() || port == 0 || port > 65535)
    return fail(ec::bad_request, "bad port \"" + std::string{text.substr(0, 32)} + "\"");
  return static_cast<std::uint16_t>(port);
}

struct authority {
  std::string host;
  std::uint16_t port;
};

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

constexpr std::array hop_by_hop{
    "connection",         "proxy-connection",    "keep-alive", "te",
    "proxy-authenticate", "proxy-authorization", "trailer",    "upgrade"};

result<void> take_header(std::string_view line, proxy_request& out, bool& has_length,
                         std::string& headers) {
  const auto colon = line.find(':');
  if (colon == std::string_view::npos || colon == 0 || line[0] == ' ' || line[0] == '\t' ||
      line[colon - 1] == ' ')
    return fail(ec::bad_request, "malformed header line");
  const auto name = lowered(line.substr(0, colon));
  auto value = line.substr(colon + 1);
  while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  if (name == "transfer-encoding")
    return fail(ec::bad_request, "Transfer-Encoding is not forwarded");
  if (name == "content-length") {
    std::uint64_t length = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), length);
    if (has_length || error != std::errc{} || end != value.data() + value.size())
      return fail(ec::bad_request, "bad Content-Length");
    has_length = true;
    out.body_bytes = length;
  }
  const bool drop =
      name == "host" || std::find(hop_by_hop.begin(), hop_by_hop.end(), name) != hop_by_hop.end();
  if (!drop) headers.append(line).append("\r\n");
  return {};
}

result<void> take_request_line(std::string_view line, proxy_request& out, std::string& path) {
  const auto first = line.find(' ');
  const auto last = line.rfind(' ');
  if (first == std::string_view::npos || last == first ||
      !line.substr(last + 1).starts_with("HTTP/1."))
    return fail(ec::bad_request, "malformed request line");
  out.method = std::string{line.substr(0, first)};
  auto target = line.substr(first + 1, last - first - 1);
  if (target.find(' ') != std::string_view::npos)
    return fail(ec::bad_request, "blank in the target");
  out.is_connect = out.method == "CONNECT";
  if (!out.is_connect) {
    if (out.method != "GET" && out.method != "HEAD" && out.method != "POST")
      return fail(ec::bad_request, "method " + out.method.substr(0, 16) + " is not forwarded");
    if (!target.starts_with("http://")) return fail(ec::bad_request, "the target must be http://…");
    target.remove_prefix(7);
    const auto slash = target.find('/');
    path = slash == std::string_view::npos ? "/" : std::string{target.substr(slash)};
    target = target.substr(0, slash);
  }
  const auto where = parse_authority(target, out.is_connect ? 0 : 80);
  if (!where) return fail(where.error());
  out.host = where->host;
  out.port = where->port;
  return {};
}

}  // namespace

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

result<proxy_request> parse_proxy_head(std::string_view head) {
  const auto wrong_byte = std::find_if(head.begin(), head.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && c != '\r' && c != '\n' && c != '\t') || byte == 0x7f;
  });
  if (wrong_byte != head.end()) return fail(ec::bad_request, "control byte in the head");
  if (!head.ends_with("\r\n\r\n"))
    return fail(ec::bad_request, "the head does not end in a blank line");
  head.remove_suffix(2);
  proxy_request out;
  std::string path;
  std::string headers;
  bool has_length = false;
  bool is_first = true;
  while (!head.empty()) {
    const auto end = head.find("\r\n");
    const auto line = head.substr(0, end);
    if (line.find_first_of("\r\n") != std::string_view::npos)
      return fail(ec::bad_request, "lone CR or LF in the head");
    const auto taken =
        is_first ? take_request_line(line, out, path) : take_header(line, out, has_length, headers);
    if (!taken) return fail(taken.error());
    is_first = false;
    head.remove_prefix(end + 2);
  }
  if (!out.is_connect) {
    const auto port = out.port == 80 ? std::string{} : ":" + std::to_string(out.port);
    out.forward_head = out.method + " " + path + " HTTP/1.1\r\nHost: " + out.host + port + "\r\n" +
                       headers + "Connection: close\r\n\r\n";
  }
  return out;
}

result<std::string> client_hello_name(std::string_view bytes, bool& complete) {
  // RFC 8446, sections 4.1.2 and 5.1; RFC 6066, section 3.
  complete = true;
  const auto not_hello = [] { return fail(ec::bad_request, "not a TLS ClientHello"); };
  std::size_t at = 0;
  const auto have = [&](std::size_t n) { return bytes.size() - at >= n; };
  const auto byte = [&](std::size_t i) {
    return static_cast<std::size_t>(static_cast<unsigned char>(bytes[i]));
  };
  if (!bytes.empty() && byte(0) != 0x16) return not_hello();
  if (bytes.size() > 1 && byte(1) != 0x03) return not_hello();
  if (bytes.size() < 5) return complete = false, std::string{};
  const auto record = byte(3) << 8 | byte(4);
  if (record < 4 || record > 16384) return not_hello();
  if (bytes.size() < 5 + record) return complete = false, std::string{};
  bytes = bytes.substr(0, 5 + record);
  if (byte(5) != 0x01) return not_hello();
  at = 9 + 2 + 32;  // handshake header, version, random
  const auto skip = [&](std::size_t length_bytes) {
    if (!have(length_bytes)) return false;
    std::size_t n = 0;
    for (std::size_t i = 0; i < length_bytes; ++i) n = n << 8 | byte(at + i);
    at += length_bytes;
    if (!have(n)) return false;
    at += n;
    return true;
  };
  if (at > bytes.size() || !skip(1) || !skip(2) || !skip(1)) return not_hello();
  if (!have(2)) return std::string{};
  at += 2;
  while (have(4)) {
    const auto type = byte(at) << 8 | byte(at + 1);
    const auto size = byte(at + 2) << 8 | byte(at + 3);
    at += 4;
    if (!have(size)) return not_hello();
    if (type == 0 && size >= 5) {
      const auto name_size = byte(at + 3) << 8 | byte(at + 4);
      if (byte(at + 2) != 0 || name_size + 5 > size) return not_hello();
      return lowered(bytes.substr(at + 5, name_size));
    }
    at += size;
  }
  return std::string{};
}

}  // namespace ntrace::net
