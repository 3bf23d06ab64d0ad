#include "config/ascii.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace ntrace {

std::string lowered(std::string_view text) {
  std::string out{text};
  for (auto& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::string uppered(std::string_view text) {
  std::string out{text};
  for (auto& c : out)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return out;
}

std::string_view trimmed(std::string_view text, std::string_view what) {
  const auto from = text.find_first_not_of(what);
  if (from == text.npos) return {};
  return text.substr(from, text.find_last_not_of(what) - from + 1);
}

std::string_view take_line(std::string_view& text) {
  const auto end = std::min(text.find('\n'), text.size());
  auto line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t out = 0;
  const auto* end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, out);
  if (text.empty() || read.ec != std::errc{} || read.ptr != end) return {};
  return out;
}

std::optional<unsigned> hex_value(char digit) {
  unsigned out = 0;
  if (std::from_chars(&digit, &digit + 1, out, 16).ec != std::errc{}) return {};
  return out;
}

std::string hex_text(std::uint64_t value, std::size_t digits) {
  std::array<char, 16> text{};
  const auto* end = std::to_chars(text.data(), text.data() + text.size(), value, 16).ptr;
  const auto used = static_cast<std::size_t>(end - text.data());
  return std::string(digits > used ? digits - used : 0, '0').append(text.data(), used);
}

std::string hex_of(std::string_view bytes) {
  std::string out;
  out.reserve(2 * bytes.size());
  for (const char c : bytes) out += hex_text(static_cast<unsigned char>(c), 2);
  return out;
}

std::string percent_decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool has_digits = text[i] == '%' && text.size() - i > 2;
    const auto high = has_digits ? hex_value(text[i + 1]) : std::nullopt;
    const auto low = has_digits ? hex_value(text[i + 2]) : std::nullopt;
    out += high && low ? static_cast<char>(*high * 16 + *low) : text[i];
    if (high && low) i += 2;
  }
  return out;
}

}  // namespace ntrace
