#include "config/utf8.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace ntrace {

void cut_to_characters(std::string& text, std::size_t bytes_max) {
  if (text.size() <= bytes_max) return;
  while (bytes_max > 0 && is_continuation(text[bytes_max])) --bytes_max;
  text.resize(bytes_max);
}

std::size_t utf8_length(std::string_view s, std::size_t& bad) {
  const auto at = [&](std::size_t i) {
    return i < s.size() ? static_cast<unsigned char>(s[i]) : 0u;
  };
  const unsigned first = at(0);
  bad = 1;
  if (first < 0x80) return 1;
  const std::size_t want = first >= 0xc2 && first <= 0xdf   ? 2
                           : first >= 0xe0 && first <= 0xef ? 3
                           : first >= 0xf0 && first <= 0xf4 ? 4
                                                            : 0;
  if (want == 0) return 0;
  unsigned low = 0x80, high = 0xbf;
  if (first == 0xe0) low = 0xa0;
  if (first == 0xed) high = 0x9f;
  if (first == 0xf0) low = 0x90;
  if (first == 0xf4) high = 0x8f;
  for (std::size_t i = 1; i < want; ++i) {
    if (at(i) < low || at(i) > high) return 0;
    low = 0x80;
    high = 0xbf;
    bad = i + 1;
  }
  return want;
}

std::uint32_t code_point(std::string_view c) {
  const auto at = [&](std::size_t i) {
    return static_cast<std::uint32_t>(static_cast<unsigned char>(c[i]));
  };
  if (c.size() == 2) return (at(0) & 0x1f) << 6 | (at(1) & 0x3f);
  if (c.size() == 3) return (at(0) & 0x0f) << 12 | (at(1) & 0x3f) << 6 | (at(2) & 0x3f);
  return (at(0) & 7) << 18 | (at(1) & 0x3f) << 12 | (at(2) & 0x3f) << 6 | (at(3) & 0x3f);
}

bool is_invisible(std::uint32_t point) {
  // Unicode 15: general categories Cc, Cf, Zl and Zp without joiners, and blank letters.
  constexpr std::array<std::pair<std::uint32_t, std::uint32_t>, 22> ranges{{
      {0x00, 0x1f},       {0x7f, 0x9f},         {0xad, 0xad},       {0x34f, 0x34f},
      {0x61c, 0x61c},     {0x115f, 0x1160},     {0x17b4, 0x17b5},   {0x180b, 0x180f},
      {0x200b, 0x200b},   {0x200e, 0x200f},     {0x2028, 0x202e},   {0x2060, 0x206f},
      {0x3164, 0x3164},   {0xfeff, 0xfeff},     {0xffa0, 0xffa0},   {0xfff0, 0xfffb},
      {0xfffe, 0xffff},   {0x1bca0, 0x1bca3},   {0x1d173, 0x1d17a}, {0xe0000, 0xe0fff},
      {0x13430, 0x1343f}, {0x10fffe, 0x10ffff},
  }};
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const auto& r) { return point >= r.first && point <= r.second; });
}

}  // namespace ntrace
