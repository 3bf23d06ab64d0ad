#include "net/egress_request.hpp"

#include <fmt/core.h>
#include <algorithm>
#include <array>

#include "config/ascii.hpp"
#include "net/egress_policy.hpp"

namespace ntrace::net {
namespace {

constexpr std::size_t target_bytes_max = 4096;
constexpr std::uint16_t http_port = 80, https_port = 443;

tl::unexpected<error> bad(std::string message) { return fail(ec::bad_request, std::move(message)); }

/// RFC 3986, sections 3.3 and 3.4: the bytes of path and query, each % with two digits.
result<void> check_path(std::string_view path) {
  constexpr std::string_view marks = "-._~!$&'()*+,;=:@/?";
  for (std::size_t i = 0; i < path.size(); ++i) {
    const char c = path[i];
    if (c == '%') {
      if (path.size() - i < 3 || !hex_value(path[i + 1]) || !hex_value(path[i + 2]))
        return bad("a % without two hexadecimal digits in the target");
      continue;
    }
    const bool is_alphanumeric =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!is_alphanumeric && marks.find(c) == std::string_view::npos)
      return bad("a byte in the target that no URI has");
  }
  return {};
}

struct request_line {
  std::string_view method, target, version;
};

/// RFC 9112, section 3: three words and exactly two blanks.
result<request_line> split_request_line(std::string_view line) {
  if (std::count(line.begin(), line.end(), ' ') != 2)
    return bad("the request line has not exactly two blanks");
  const auto first = line.find(' '), last = line.rfind(' ');
  const request_line out{line.substr(0, first), line.substr(first + 1, last - first - 1),
                         line.substr(last + 1)};
  if (out.version != "HTTP/1.1" && out.version != "HTTP/1.0")
    return bad("the version is not HTTP/1.0 or HTTP/1.1");
  if (!is_http_token(out.method)) return bad("the method is no token");
  if (out.target.empty()) return bad("the target is empty");
  if (out.target.size() > target_bytes_max) return bad("a target above 4 KiB");
  return out;
}

/// The authority in `target`, and what follows it in `path`.
result<authority> take_target(const request_line& line, std::string& path) {
  if (line.method == "CONNECT") return parse_authority(line.target, 0);
  if (line.method != "GET" && line.method != "HEAD" && line.method != "POST")
    return bad("the method " + std::string{line.method.substr(0, 16)} + " is not forwarded");
  auto rest = line.target;
  if (rest.starts_with("https://"))
    return bad("https:// in the target: a client asks for TLS by CONNECT");
  if (!rest.starts_with("http://")) return bad("the target is not http://…");
  rest.remove_prefix(7);
  if (rest.find('#') != std::string_view::npos) return bad("a fragment in the target");
  const auto end = std::min(rest.find_first_of("/?"), rest.size());
  path = std::string{rest.substr(end)};
  if (!path.starts_with('/')) path.insert(path.begin(), '/');
  if (const auto sound = check_path(path); !sound) return fail(sound.error());
  if (rest.substr(0, end).find('@') != std::string_view::npos)
    return bad("a user name in the target");
  return parse_authority(rest.substr(0, end), http_port);
}

/// RFC 9112, section 3.2: one Host, which says what the target says. Those of HTTP/1.0 may lack it.
result<void> check_host(const http_fields& fields, const request_line& line, const authority& to) {
  const auto host = only_value(fields, "host");
  if (!host) return fail(host.error());
  if (!*host) return line.version == "HTTP/1.0" ? result<void>{} : bad("no Host");
  const auto said = parse_authority(**host, line.method == "CONNECT" ? https_port : http_port);
  if (!said) return bad("Host is no host name");
  if (said->host != to.host || said->port != to.port)
    return bad("Host is another one than the target's");
  return {};
}

result<void> take_expect(const http_fields& fields, proxy_request& out) {
  const auto expect = only_value(fields, "expect");
  if (!expect) return fail(expect.error());
  if (!*expect) return {};
  if (**expect != "100-continue") return bad("an Expect that is not 100-continue");
  out.wants_continue = true;
  return {};
}

/// Appends the fields, then those that frame the body as `from` has them, and the end of the head.
result<void> append_fields(std::string& head, const http_fields& from) {
  const auto kept = end_to_end(from);
  if (!kept) return fail(kept.error());
  for (const auto& field : *kept)
    head.append(field.name).append(": ").append(field.value).append("\r\n");
  for (const auto* name : {"content-length", "transfer-encoding"})
    if (const auto value = only_value(from, name); value && *value)
      head.append(name).append(": ").append(**value).append("\r\n");
  head.append("connection: close\r\n\r\n");
  return {};
}

result<void> take_body(const http_fields& fields, const request_line& line, proxy_request& out) {
  const auto framing = framing_of(fields);
  if (!framing) return fail(framing.error());
  if (!*framing) return {};
  out.body = **framing;
  if (out.body.is_done()) return {};
  if (line.method != "POST") return bad("a body of a " + std::string{line.method});
  if (line.version == "HTTP/1.0" && out.body.is_chunked())
    return bad("Transfer-Encoding in HTTP/1.0");
  return {};
}

}  // namespace

result<proxy_request> parse_proxy_head(std::string_view head) {
  const auto parsed = parse_http_head(head, false);
  if (!parsed) return fail(parsed.error());
  const auto line = split_request_line(parsed->first_line);
  if (!line) return fail(line.error());
  proxy_request out;
  out.method = std::string{line->method};
  out.is_connect = out.method == "CONNECT";
  std::string path;
  auto to = take_target(*line, path);
  if (!to) return fail(to.error());
  for (const auto& checked :
       {check_host(parsed->fields, *line, *to), take_body(parsed->fields, *line, out),
        take_expect(parsed->fields, out)})
    if (!checked) return fail(checked.error());
  out.host = std::move(to->host);
  out.port = to->port;
  std::string forward =
      fmt::format("{} {} {}\r\nhost: {}{}\r\n", out.method, path, line->version, out.host,
                  out.port == http_port ? "" : ":" + std::to_string(out.port));
  if (const auto added = append_fields(forward, parsed->fields); !added) return fail(added.error());
  if (!out.is_connect) out.forward_head = std::move(forward);
  return out;
}

result<proxy_answer> parse_proxy_answer(std::string_view head, std::string_view method) {
  const auto parsed = parse_http_head(head, true);
  if (!parsed) return fail(parsed.error());
  const std::string_view line = parsed->first_line;
  const auto code = line.substr(std::min<std::size_t>(9, line.size()), 3);
  const bool is_sound =
      (line.starts_with("HTTP/1.1 ") || line.starts_with("HTTP/1.0 ")) && code.size() == 3 &&
      std::all_of(code.begin(), code.end(), [](char c) { return c >= '0' && c <= '9'; }) &&
      code.front() != '0' && (line.size() == 12 || line[12] == ' ') &&
      std::none_of(line.begin(), line.end(), [](char c) {
        return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
      });
  if (!is_sound) return bad("the status line is malformed");
  proxy_answer out;
  out.status = (code[0] - '0') * 100 + (code[1] - '0') * 10 + (code[2] - '0');
  if (out.status == 101) return bad("101 Switching Protocols is not passed on");
  const auto framing = framing_of(parsed->fields);
  if (!framing) return fail(framing.error());
  if (*framing && (*framing)->is_chunked() && line.starts_with("HTTP/1.0"))
    return bad("Transfer-Encoding in HTTP/1.0");
  // RFC 9112, section 6.3.
  const bool has_none =
      method == "HEAD" || out.is_interim() || out.status == 204 || out.status == 304;
  out.body = has_none ? http_body::none() : framing->value_or(http_body::to_the_end());
  out.forward_head = std::string{line} + "\r\n";
  if (const auto added = append_fields(out.forward_head, parsed->fields); !added)
    return fail(added.error());
  return out;
}

}  // namespace ntrace::net
