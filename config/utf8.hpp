#pragma once
// UTF-8. Pure.
#include <cstdint>
#include <string>
#include <string_view>

namespace ntrace {

/// Stands for bytes that are no character.
inline constexpr std::string_view replacement_character = "\xef\xbf\xbd";

bool is_utf8(std::string_view bytes);

/// A byte within a character: not its first.
constexpr bool is_continuation(char byte) {
  return (static_cast<unsigned char>(byte) & 0xc0) == 0x80;
}

/// Leaves at most `bytes_max` of the text, and whole characters only.
void cut_to_characters(std::string& text, std::size_t bytes_max);

/// Length of the UTF-8 character at the start of `s`, or 0 when it is invalid; `bad` is then the
/// length of its maximal valid beginning (Unicode 15, section 3.9, "U+FFFD substitution"), which is
/// all of `s` when more bytes could make it valid.
std::size_t utf8_length(std::string_view s, std::size_t& bad);

/// The number of one valid character of two to four bytes.
std::uint32_t code_point(std::string_view character);

/// A character that shows nothing, or that moves or reorders what stands around it: controls, bidi
/// controls, line separators, tags, blanks without width. Joiners are none: scripts need them.
bool is_invisible(std::uint32_t point);

}  // namespace ntrace
