#include "net/ssh_names.hpp"

#include <fmt/core.h>
#include <algorithm>

#include "config/base64.hpp"
#include "config/digest.hpp"

namespace ntrace::net {
namespace {

constexpr std::size_t blob_bytes_max = 16'384;

bool is_plain(char c) { return c > ' ' && c < 0x7f && c != '@' && c != '/'; }

}  // namespace

result<ssh_target> parse_ssh_target(std::string_view text) {
  constexpr std::string_view scheme = "ssh://";
  const auto wrong = [&](const std::string& why) {
    return fail(ec::bad_config, fmt::format("\"{}\" is not ssh://USER@HOST[:PORT]: {}", text, why));
  };
  if (!text.starts_with(scheme)) return wrong("it does not begin with ssh://");
  auto rest = text.substr(scheme.size());
  const auto at = rest.find('@');
  if (at == std::string_view::npos || at == 0) return wrong("no user is named");
  ssh_target out;
  out.user = rest.substr(0, at);
  rest.remove_prefix(at + 1);
  if (!std::all_of(out.user.begin(), out.user.end(), is_plain) ||
      out.user.find(':') != out.user.npos)
    return wrong("the user's name holds what no name does");
  if (!std::all_of(rest.begin(), rest.end(), is_plain)) return wrong("nothing may follow the port");
  const auto end_of_host = rest.starts_with('[') ? rest.find(']') : rest.find(':');
  const bool has_port = rest.starts_with('[')
                            ? end_of_host != rest.npos && end_of_host + 1 < rest.size()
                            : end_of_host != rest.npos;
  const auto parsed = parse_host_port(has_port ? std::string{rest} : std::string{rest} + ":22");
  if (!parsed || parsed->port == 0 ||
      (!rest.starts_with('[') && parsed->host.find(':') != std::string::npos))
    return wrong("no host or port can be read; an IPv6 address stands in brackets");
  out.at = *parsed;
  return out;
}

std::optional<std::uint32_t> ssh_reader::number() {
  if (rest_.size() < 4) return {};
  std::uint32_t out = 0;
  for (const char c : rest_.substr(0, 4)) out = out << 8 | static_cast<unsigned char>(c);
  rest_.remove_prefix(4);
  return out;
}

std::optional<std::string_view> ssh_reader::string() {
  const auto before = rest_;
  const auto size = number();
  if (!size || rest_.size() < *size) {
    rest_ = before;
    return {};
  }
  const auto out = rest_.substr(0, *size);
  rest_.remove_prefix(*size);
  return out;
}

void put_number(std::string& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xff);
}

void put_string(std::string& out, std::string_view value) {
  put_number(out, static_cast<std::uint32_t>(value.size()));
  out += value;
}

std::optional<public_key> parse_key_blob(std::string_view blob) {
  if (blob.size() > blob_bytes_max) return {};
  ssh_reader in{blob};
  const auto type = in.string();
  // RFC 4251, section 6: printable, and names of others than the IETF have an @.
  const auto is_of_name = [](char c) { return c == '@' || is_plain(c); };
  if (!type || type->empty() || type->size() > 64 || in.rest().empty() ||
      !std::all_of(type->begin(), type->end(), is_of_name))
    return {};
  return public_key{std::string{*type}, std::string{blob}};
}

std::string key_text(const public_key& key) { return key.type + " " + to_base64(key.blob); }

std::string fingerprint(const public_key& key) {
  auto out = digest_base64("sha256", key.blob);
  while (out.ends_with('=')) out.pop_back();
  return "SHA256:" + out;
}

}  // namespace ntrace::net
