#include "config/terminal_text.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "config/ascii.hpp"
#include "config/utf8.hpp"

namespace ntrace {
namespace {

constexpr std::size_t sgr_bytes_max = 48;  // "\x1b[38;2;255;255;255;48;2;255;255;255m" has 38.
constexpr std::string_view no_colours = "\x1b[0m";

std::string visible_byte(char c) { return "\\x" + hex_text(static_cast<unsigned char>(c), 2); }
std::string visible_character(std::uint32_t point) { return "\\u{" + hex_text(point, 1) + "}"; }

enum class sgr { none, unfinished, whole };

/// Whether `s`, which begins with ESC, begins with a sequence of digits, ';' and ':' up to 'm'.
sgr find_sgr(std::string_view s, std::size_t& size) {
  if (s.size() == 1) return sgr::unfinished;
  if (s[1] != '[') return sgr::none;
  for (size = 2; size < s.size() && size < sgr_bytes_max; ++size) {
    const char c = s[size];
    if (c == 'm') return ++size, sgr::whole;
    if ((c < '0' || c > '9') && c != ';' && c != ':') return sgr::none;
  }
  return size < sgr_bytes_max ? sgr::unfinished : sgr::none;
}

/// Colours and styles; not 8, which hides text. The parameters of 38, 48 and 58 are colours.
bool is_style(std::string_view parameters) {
  std::array<unsigned, sgr_bytes_max> codes{};
  std::size_t n = 0;
  for (std::size_t at = 0; at <= parameters.size();) {
    const auto end = std::min(parameters.find(';', at), parameters.size());
    auto code = parameters.substr(at, end - at);
    code = code.substr(0, code.find(':'));
    unsigned value = 0;
    for (const char c : code) value = std::min(value * 10 + static_cast<unsigned>(c - '0'), 1000u);
    codes[n++] = value;
    at = end + 1;
  }
  for (std::size_t i = 0; i < n; ++i) {
    const auto code = codes[i];
    const bool is_known = (code <= 7) || code == 9 || (code >= 21 && code <= 49) || code == 53 ||
                          code == 55 || (code >= 58 && code <= 59) || (code >= 90 && code <= 107);
    if (!is_known) return false;
    if (code != 38 && code != 48 && code != 58) continue;
    if (i + 1 < n && codes[i + 1] == 5)
      i += 2;
    else if (i + 1 < n && codes[i + 1] == 2)
      i += 4;
  }
  return true;
}

}  // namespace

void terminal_text::end_line(std::string& out) {
  out += stop_colours() + '\n';
  at_line_start_ = after_ascii_ = true;
}

std::string terminal_text::add(std::string_view bytes) { return show(bytes, false); }

std::string terminal_text::stop_colours() {
  return std::exchange(is_coloured_, false) ? std::string{no_colours} : std::string{};
}

std::string terminal_text::end() {
  auto out = show({}, true);
  out += stop_colours();
  *this = {};
  return out;
}

std::string terminal_text::show(std::string_view bytes, bool is_end) {
  std::string all = std::move(waiting_);
  all += bytes;
  waiting_.clear();
  std::string out;
  const std::string_view text{all};
  for (std::size_t i = 0; i < text.size();) {
    const auto rest = text.substr(i);
    const char c = rest[0];
    std::size_t size = 1, bad = 1;
    if (c == '\n') {
      end_line(out);
    } else if (c == '\r') {
      if (rest.size() == 1 && !is_end) return waiting_ = rest, out;
      // Before a newline it is the line's end; at a line's start there is nothing to hide.
      const bool is_part = rest.size() > 1 && (rest[1] == '\n' || rest[1] == '\r');
      if (!is_part && !at_line_start_) end_line(out);
    } else if (c == '\x1b') {
      const auto found = find_sgr(rest, size);
      if (found == sgr::unfinished && !is_end) return waiting_ = rest, out;
      if (found == sgr::whole && is_style(rest.substr(2, size - 3))) {
        const auto sequence = rest.substr(0, size);
        out += sequence;
        is_coloured_ = sequence != no_colours && sequence != "\x1b[m";
      } else {
        size = 1;
        out += visible_byte(c);
        at_line_start_ = false;
      }
    } else {
      size = utf8_length(rest, bad);
      if (size == 0 && bad == rest.size() && rest.size() < 4 && !is_end &&
          static_cast<unsigned char>(c) >= 0xc2 && static_cast<unsigned char>(c) <= 0xf4)
        return waiting_ = rest, out;
      const auto point = size > 1 ? code_point(rest.substr(0, size))
                                  : static_cast<std::uint32_t>(static_cast<unsigned char>(c));
      const bool is_joiner = point == 0x200c || point == 0x200d;
      if (size == 0 || (size == 1 && (point < 0x20 || point == 0x7f) && c != '\t'))
        out += visible_byte(c);
      else if (size > 1 && (is_invisible(point) || (is_joiner && after_ascii_)))
        out += visible_character(point);
      else
        out += rest.substr(0, size);
      after_ascii_ = size <= 1;
      at_line_start_ = false;
      if (size == 0) size = 1;
    }
    i += size;
  }
  return out;
}

std::string for_terminal(std::string_view text) {
  std::string out, piece;
  terminal_text filter;
  for (const char c : text) {
    if (c != '\x1b' && c != '\r') {
      piece += c;
      continue;
    }
    out += filter.add(piece);
    out += filter.end();
    out += visible_byte(c);
    piece.clear();
  }
  out += filter.add(piece);
  return out += filter.end();
}

std::string one_line(std::string_view text) {
  std::string out;
  for (const char c : for_terminal(text))
    out += c == '\n' || c == '\t' ? visible_byte(c) : std::string{c};
  return out;
}

}  // namespace ntrace
