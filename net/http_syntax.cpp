#include "net/http_syntax.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "config/ascii.hpp"

namespace ntrace::net {
namespace {

constexpr std::size_t fields_max = 100;
constexpr std::size_t line_bytes_max = 8192;
constexpr int chunk_digits_max = 15;  // below 2^60: no sum of them overflows
constexpr std::size_t length_digits_max = 18;

tl::unexpected<error> bad(std::string message) { return fail(ec::bad_request, std::move(message)); }

/// RFC 9110, section 5.6.2.
bool is_token_byte(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         std::string_view{"!#$%&'*+-.^_`|~"}.find(c) != std::string_view::npos;
}

/// Of the connection and not of the message: RFC 9110, section 7.6.1. Host and Expect are written
/// or answered by a proxy itself.
constexpr std::array<std::string_view, 13> per_hop{
    "connection",     "proxy-connection",   "keep-alive",          "te",   "trailer",
    "upgrade",        "proxy-authenticate", "proxy-authorization", "host", "expect",
    "content-length", "transfer-encoding",  "http2-settings"};
/// Another reader would see another message if one of these were taken out on somebody's word.
constexpr std::array<std::string_view, 3> never_named{"host", "content-length",
                                                      "transfer-encoding"};

template <class List>
bool holds(const List& all, std::string_view name) {
  return std::find(all.begin(), all.end(), name) != all.end();
}

result<http_field> parse_field(std::string_view line, bool is_answer) {
  if (line.size() > line_bytes_max) return bad("a header line above 8 KiB");
  if (line.front() == ' ' || line.front() == '\t') return bad("a folded header line");
  const auto colon = line.find(':');
  if (colon == std::string_view::npos) return bad("a header line without a colon");
  const auto name = line.substr(0, colon);
  if (name.empty()) return bad("a header without a name");
  if (name.back() == ' ' || name.back() == '\t') return bad("a blank before a header's colon");
  if (!is_http_token(name)) return bad("a header's name that is no token");
  // Some servers take it for a hyphen: Content_Length.
  if (!is_answer && name.find('_') != std::string_view::npos)
    return bad("an underscore in a header's name");
  const auto value = line.substr(colon + 1);
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t') || byte == 0x7f)
      return bad("a control byte in a header's value");
    if (byte > 0x7f && !is_answer) return bad("a byte above 0x7f in a header's value");
  }
  return http_field{lowered(name), std::string{trimmed(value)}};
}

}  // namespace

bool is_http_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_token_byte);
}

http_body http_body::of_length(std::uint64_t bytes) {
  http_body out;
  out.left_ = bytes;
  out.state_ = bytes == 0 ? state::done : state::plain;
  return out;
}

http_body http_body::chunked() {
  http_body out;
  out.state_ = state::size;
  out.is_chunked_ = true;
  return out;
}

http_body http_body::to_the_end() {
  http_body out;
  out.state_ = state::endless;
  return out;
}

/// One byte of what stands around the data of chunks: RFC 9112, section 7.1.
result<void> http_body::on_control(char c) {
  const auto expect = [&](char wanted, state next) -> result<void> {
    if (c != wanted) return bad("a chunk is not framed by CR LF");
    state_ = next;
    return {};
  };
  switch (state_) {
    case state::size: {
      if (const auto digit = hex_value(c)) {
        if (++digits_ > chunk_digits_max) return bad("a chunk's size has too many digits");
        left_ = left_ * 16 + *digit;
        return {};
      }
      if (digits_ == 0) return bad("a chunk without a size");
      if (c != '\r') return bad("a chunk's size is not hexadecimal digits alone");
      state_ = state::size_lf;
      return {};
    }
    case state::size_lf:
      digits_ = 0;
      return expect('\n', left_ == 0 ? state::last_cr : state::data);
    case state::data_cr:
      return expect('\r', state::data_lf);
    case state::data_lf:
      return expect('\n', state::size);
    case state::last_cr:
      if (c != '\r') return bad("trailers behind the last chunk");
      state_ = state::last_lf;
      return {};
    default:
      return expect('\n', state::done);
  }
}

result<std::size_t> http_body::take(std::string_view bytes) {
  std::size_t taken = 0;
  while (taken < bytes.size() && state_ != state::done) {
    if (state_ == state::endless) return bytes.size();
    if (state_ != state::plain && state_ != state::data) {
      if (const auto seen = on_control(bytes[taken]); !seen) return fail(seen.error());
      ++taken;
      continue;
    }
    const auto step = std::min<std::uint64_t>(left_, bytes.size() - taken);
    left_ -= step;
    taken += static_cast<std::size_t>(step);
    if (left_ == 0) state_ = state_ == state::plain ? state::done : state::data_cr;
  }
  return taken;
}

result<http_head> parse_http_head(std::string_view head, bool is_answer) {
  if (!head.ends_with("\r\n\r\n")) return bad("the head does not end in a blank line");
  head.remove_suffix(2);
  http_head out;
  bool is_first = true;
  while (!head.empty()) {
    const auto end = head.find("\r\n");
    const auto line = head.substr(0, end);
    head.remove_prefix(end + 2);
    if (line.find_first_of(std::string_view{"\r\n\0", 3}) != std::string_view::npos)
      return bad("a lone CR, a lone LF or a NUL in the head");
    if (std::exchange(is_first, false)) {
      if (line.empty()) return bad("a blank line before the head");
      out.first_line = std::string{line};
      continue;
    }
    if (line.empty()) return bad("a blank line within the head");
    auto field = parse_field(line, is_answer);
    if (!field) return fail(field.error());
    out.fields.push_back(std::move(*field));
    if (out.fields.size() > fields_max) return bad("more than 100 header lines");
  }
  return out;
}

result<std::optional<std::string>> only_value(const http_fields& all, std::string_view name) {
  std::optional<std::string> out;
  for (const auto& field : all) {
    if (field.name != name) continue;
    if (out) return bad("the header " + std::string{name} + " comes twice");
    out = field.value;
  }
  return out;
}

result<std::optional<http_body>> framing_of(const http_fields& all) {
  const auto length = only_value(all, "content-length"),
             coding = only_value(all, "transfer-encoding");
  if (!length) return fail(length.error());
  if (!coding) return fail(coding.error());
  if (*length && *coding) return bad("both Content-Length and Transfer-Encoding");
  if (*coding) {
    if (lowered(**coding) != "chunked") return bad("a Transfer-Encoding that is not chunked");
    return http_body::chunked();
  }
  if (!*length) return std::optional<http_body>{};
  const std::string& text = **length;
  const bool is_number =
      !text.empty() && text.size() <= length_digits_max &&
      std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!is_number) return bad("a Content-Length that is not digits alone, or too many of them");
  std::uint64_t bytes = 0;
  std::from_chars(text.data(), text.data() + text.size(), bytes);
  return http_body::of_length(bytes);
}

result<http_fields> end_to_end(const http_fields& all) {
  std::vector<std::string> named;
  for (const auto& field : all) {
    if (field.name != "connection" && field.name != "proxy-connection") continue;
    for (std::string_view rest = field.value; !rest.empty();) {
      const auto comma = std::min(rest.find(','), rest.size());
      const auto one = lowered(trimmed(rest.substr(0, comma)));
      rest.remove_prefix(std::min(comma + 1, rest.size()));
      if (one.empty()) continue;
      if (!is_http_token(one)) return bad("Connection holds what is no token");
      if (holds(never_named, one)) return bad("Connection names " + one);
      named.push_back(one);
    }
  }
  http_fields out;
  for (const auto& field : all)
    if (!holds(per_hop, field.name) && !holds(named, field.name)) out.push_back(field);
  return out;
}

}  // namespace ntrace::net
