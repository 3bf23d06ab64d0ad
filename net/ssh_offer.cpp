#include "net/ssh_offer.hpp"

#include <fmt/core.h>
#include <algorithm>
#include <array>

#include "net/ssh_names.hpp"

namespace ntrace::net {
namespace {

constexpr std::size_t packet_bytes_max = 35'000;  // RFC 4253, section 6.1
constexpr char kexinit = 20;
constexpr std::size_t cookie_bytes = 16;

std::vector<std::string_view> methods_of(std::string_view list) {
  std::vector<std::string_view> out;
  while (!list.empty()) {
    const auto comma = list.find(',');
    out.push_back(list.substr(0, comma));
    list.remove_prefix(comma == list.npos ? list.size() : comma + 1);
  }
  return out;
}

/// RFC 4251, section 6: names are printable ASCII without commas, at most 64 bytes each.
bool is_name_list(std::string_view list) {
  const auto all = methods_of(list);
  return !list.ends_with(',') && std::all_of(all.begin(), all.end(), [](std::string_view name) {
    return !name.empty() && name.size() <= 64 &&
           std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 0x7f; });
  });
}

/// The methods of `first` that `second` has, too.
std::string common(std::string_view first, std::string_view second) {
  const auto others = methods_of(second);
  std::string out;
  for (const auto& one : methods_of(first))
    if (std::find(others.begin(), others.end(), one) != others.end())
      out += (out.empty() ? "" : ",") + std::string{one};
  return out;
}

std::string spaced(std::string_view list) {
  std::string out;
  for (const auto& one : methods_of(list)) out += (out.empty() ? "" : ", ") + std::string{one};
  return out.empty() ? "none" : out;
}

}  // namespace

std::optional<ssh_offer> parse_offer(std::string_view packet) {
  ssh_reader outer{packet};
  const auto size = outer.number();
  if (!size || *size > packet_bytes_max || outer.rest().size() < *size || *size < 2) return {};
  auto message = outer.rest().substr(0, *size);
  const auto padding = static_cast<unsigned char>(message.front());
  // The whole is a multiple of 8 with at least 4 bytes of padding.
  if (padding < 4 || padding + std::size_t{1} >= message.size() || (*size + 4) % 8 != 0) return {};
  message = message.substr(1, message.size() - 1 - padding);
  if (message.front() != kexinit || message.size() < 1 + cookie_bytes) return {};
  ssh_reader in{message.substr(1 + cookie_bytes)};
  std::array<std::string_view, 10> lists;
  for (auto& list : lists) {
    const auto read = in.string();
    if (!read || !is_name_list(*read)) return {};
    list = *read;
  }
  if (in.rest().size() != 5 || static_cast<unsigned char>(in.rest().front()) > 1) return {};
  return ssh_offer{std::string{lists[0]}, std::string{lists[1]}, common(lists[2], lists[3]),
                   common(lists[4], lists[5])};
}

std::string mismatch::sentence(bool is_pinned) const {
  return fmt::format("{}{}, the server offers {}",
                     what == "host key" && is_pinned ? "pinned " : "we offer ", spaced(ours),
                     spaced(theirs));
}

std::vector<mismatch> mismatches(const ssh_offer& ours, const ssh_offer& theirs) {
  std::vector<mismatch> out;
  const auto compare = [&](const char* what, const std::string& a, const std::string& b) {
    if (common(a, b).empty()) out.push_back({what, a, b});
  };
  compare("host key", ours.host_keys, theirs.host_keys);
  compare("key exchange", ours.key_exchanges, theirs.key_exchanges);
  compare("cipher", ours.ciphers, theirs.ciphers);
  const auto shared = common(ours.ciphers, theirs.ciphers);
  const auto cipher = shared.substr(0, shared.find(','));
  if (!shared.empty() && cipher.find("-gcm") == cipher.npos) compare("MAC", ours.macs, theirs.macs);
  return out;
}

}  // namespace ntrace::net
