#include "net/known_hosts.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "config/ascii.hpp"
#include "config/base64.hpp"
#include "config/digest.hpp"
#include "config/file.hpp"

namespace ntrace::net {
namespace {

constexpr std::size_t file_bytes_max = 1u << 20;

/// sshd(8): the port stands only where it is not 22. Names are compared in lower case.
std::string name_of(const host_port& at) {
  const auto host = lowered(at.host);
  return at.port == 22 ? host : fmt::format("[{}]:{}", host, at.port);
}

std::vector<std::string> words(const std::string& line) {
  std::istringstream in{line};
  std::vector<std::string> out;
  for (std::string w; in >> w;) out.push_back(w);
  return out;
}

}  // namespace

bool known_hosts::names(const entry& e, const std::string& name) {
  return std::any_of(e.names.begin(), e.names.end(), [&](const std::string& held) {
    if (!held.starts_with("|1|")) return held == name;
    const auto middle = held.find('|', 3);
    const auto salt = from_base64(std::string_view{held}.substr(3, middle - 3));
    const auto hash = from_base64(std::string_view{held}.substr(middle + 1));
    return salt && hash && is_same_secret(hmac("sha1", *salt, name), *hash);
  });
}

result<known_hosts> known_hosts::parse(std::string_view text, const std::string& path) {
  known_hosts out;
  std::istringstream in{std::string{text}};
  unsigned number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    const auto wrong = [&](const std::string& why) {
      return fail(ec::bad_key,
                  fmt::format("{}:{}: {}; repair or remove the line", path, number, why));
    };
    auto parts = words(line);
    if (parts.empty() || parts[0].starts_with('#')) continue;
    entry e{number, {}, false, {}};
    if (parts[0].starts_with('@')) {
      if (parts[0] != "@revoked") return wrong("the marker " + parts[0] + " is not supported");
      e.is_revoked = true;
      parts.erase(parts.begin());
    }
    if (parts.size() < 3) return wrong("it is not `HOST TYPE KEY`");
    std::istringstream hosts{parts[0]};
    for (std::string host; std::getline(hosts, host, ',');) {
      // A revocation for all hosts is what everybody writes.
      const bool is_any = e.is_revoked && host == "*";
      if (!is_any && host.find_first_of("*?!") != std::string::npos)
        return wrong("wildcards and negations are not supported");
      if (host.starts_with('|') &&
          (!host.starts_with("|1|") || std::count(host.begin(), host.end(), '|') != 3))
        return wrong("the hashed name is damaged");
      e.names.push_back(host.starts_with('|') ? host : lowered(host));
    }
    const auto blob = from_base64(parts[2]);
    const auto key = blob ? parse_key_blob(*blob) : std::nullopt;
    if (!key || key->type != parts[1]) return wrong("the key is damaged");
    e.key = *key;
    out.entries_.push_back(std::move(e));
  }
  return out;
}

result<known_hosts> known_hosts::load(const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0 && errno == ENOENT) return known_hosts{};
  const auto text = read_file(path, file_bytes_max);
  if (!text) return fail(ec::bad_key, "the pinned host keys: " + text.error().message);
  return parse(*text, path);
}

host_key_check known_hosts::check(const host_port& at, const public_key& shown) const {
  const auto name = name_of(at);
  host_key_check out;
  for (const auto& e : entries_) {
    const bool is_any =
        e.is_revoked && std::find(e.names.begin(), e.names.end(), "*") != e.names.end();
    if (!is_any && !names(e, name)) continue;
    if (e.is_revoked) {
      if (e.key == shown) return {host_key_verdict::revoked, e.line, e.key};
    } else if (e.key == shown) {
      out = {host_key_verdict::match, e.line, e.key};  // A later line may still revoke it.
    } else if (out.verdict == host_key_verdict::unknown) {
      out = {host_key_verdict::changed, e.line, e.key};
    }
  }
  return out;
}

std::vector<std::string> known_hosts::types_of(const host_port& at) const {
  const auto name = name_of(at);
  std::vector<std::string> out;
  for (const auto& e : entries_)
    if (!e.is_revoked && names(e, name) &&
        std::find(out.begin(), out.end(), e.key.type) == out.end())
      out.push_back(e.key.type);
  return out;
}

std::string known_hosts_line(const host_port& at, const public_key& key) {
  return fmt::format("{} {}\n", name_of(at), key_text(key));
}

result<void> trust_host_key(const std::string& path, const host_port& at, const public_key& key) {
  const auto held = known_hosts::load(path);
  if (!held) return fail(held.error());
  if (held->check(at, key).verdict == host_key_verdict::match) return {};
  std::string text;
  if (::access(path.c_str(), F_OK) == 0) {
    const auto before = read_file(path, file_bytes_max);
    if (!before) return fail(before.error());
    text = *before;
    if (!text.empty() && !text.ends_with('\n')) text += '\n';
  } else if (const auto slash = path.rfind('/'); slash != std::string::npos && slash > 0) {
    if (auto made = make_folders(path.substr(0, slash)); !made) return made;
  }
  return write_file_durably(path, text + known_hosts_line(at, key), 0644);
}

}  // namespace ntrace::net
