#include "net/client_hello.hpp"

#include <algorithm>
#include <optional>

#include "config/ascii.hpp"

namespace ntrace::net {
namespace {

constexpr std::size_t record_bytes_max = 16384;  // RFC 8446, section 5.1
constexpr std::size_t hello_bytes_max = 16384;   // a large one with post-quantum keys has 2 KiB
// With its records' heads. What has come is read again with each more byte: this bounds the work.
constexpr std::size_t wire_bytes_max = 20480;
constexpr std::size_t server_name = 0;  // RFC 6066, section 3
// draft-ietf-tls-esni: the final number, and the one of the first drafts (ESNI).
constexpr std::size_t encrypted_hello = 0xfe0d, encrypted_name = 0xffce;

tl::unexpected<error> bad(std::string message) { return fail(ec::bad_request, std::move(message)); }

/// Big-endian numbers and the vectors that they measure (RFC 8446, section 3.4). Once a read went
/// beyond the end, all are empty and is_sound() is false.
class reader {
public:
  explicit reader(std::string_view bytes) : rest_{bytes} {}
  std::size_t number(std::size_t bytes) {
    std::size_t out = 0;
    for (const char c : take(bytes)) out = out << 8 | static_cast<unsigned char>(c);
    return out;
  }
  std::string_view take(std::size_t bytes) {
    if (bytes > rest_.size()) {
      is_sound_ = false;
      rest_ = {};
      return {};
    }
    const auto out = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return out;
  }
  std::string_view vector(std::size_t length_bytes) { return take(number(length_bytes)); }
  bool is_at_end() const { return rest_.empty(); }
  bool is_sound() const { return is_sound_; }

private:
  std::string_view rest_;
  bool is_sound_ = true;
};

/// The handshake message that the records at the begin of `bytes` carry. Nothing while some of it
/// is missing.
result<std::optional<std::string>> take_handshake(std::string_view bytes) {
  std::string message;
  const bool is_long = bytes.size() > wire_bytes_max;
  const auto need_more = [&]() -> result<std::optional<std::string>> {
    if (is_long) return bad("a ClientHello above 20 KiB with its records");
    return std::optional<std::string>{};
  };
  for (;;) {
    // A wrong byte is told of at once: a peer that speaks another protocol may send no more.
    if (!bytes.empty() && bytes[0] != 0x16) return bad("not a TLS ClientHello");
    if (bytes.size() > 1 && bytes[1] != 0x03) return bad("not a TLS ClientHello");
    if (bytes.size() < 5) return need_more();
    const auto size = reader{bytes.substr(3)}.number(2);
    if (size == 0 || size > record_bytes_max) return bad("not a TLS ClientHello");
    if (bytes.size() > 5 && message.empty() && bytes[5] != 0x01)
      return bad("not a TLS ClientHello");
    if (bytes.size() < 5 + size) return need_more();
    message.append(bytes.substr(5, size));
    bytes.remove_prefix(5 + size);
    if (message.size() < 4) continue;
    const auto whole = 4 + reader{std::string_view{message}.substr(1)}.number(3);
    if (whole > hello_bytes_max) return bad("a ClientHello above 16 KiB");
    if (message.size() > whole) return bad("bytes behind the ClientHello in its record");
    if (message.size() == whole) return message;
  }
}

result<std::string> name_in(std::string_view extension) {
  reader list{extension};
  reader names{list.vector(2)};
  if (!list.is_sound() || !list.is_at_end()) return bad("a malformed server name");
  const bool is_host_name = names.number(1) == 0;
  auto out = lowered(names.vector(2));
  if (!names.is_sound() || !is_host_name || out.empty()) return bad("a malformed server name");
  if (!names.is_at_end()) return bad("several server names");
  return out;
}

}  // namespace

result<std::string> client_hello_name(std::string_view bytes, bool& complete) {
  complete = true;
  const auto message = take_handshake(bytes);
  if (!message) return fail(message.error());
  if (!*message) {
    complete = false;
    return std::string{};
  }
  // RFC 8446, section 4.1.2.
  reader hello{std::string_view{**message}.substr(4)};
  hello.take(2 + 32);                                               // version, random
  hello.vector(1);                                                  // session
  hello.vector(2);                                                  // cipher suites
  hello.vector(1);                                                  // compression
  if (hello.is_sound() && hello.is_at_end()) return std::string{};  // TLS 1.2 without extensions
  reader extensions{hello.vector(2)};
  if (!hello.is_sound() || !hello.is_at_end()) return bad("a malformed ClientHello");
  std::optional<std::string> name;
  while (!extensions.is_at_end()) {
    const auto type = extensions.number(2);
    const auto content = extensions.vector(2);
    if (!extensions.is_sound()) return bad("a malformed ClientHello");
    if (type == encrypted_hello || type == encrypted_name)
      return bad("the TLS ClientHello hides its server name");
    if (type != server_name) continue;
    if (name) return bad("several server names");
    auto found = name_in(content);
    if (!found) return fail(found.error());
    name = std::move(*found);
  }
  return name.value_or("");
}

}  // namespace ntrace::net
