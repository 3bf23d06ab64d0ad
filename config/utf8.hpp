#pragma once
// UTF-8, character by character. Pure.
#include <cstdint>
#include <string>
#include <string_view>

namespace ntrace {

/// Length of the UTF-8 character at the start of `s`, or 0 when it is invalid; `bad` is then the
/// length of its maximal valid beginning (Unicode 15, section 3.9, "U+FFFD substitution"), which is
/// all of `s` when more bytes could make it valid.
std::size_t utf8_length(std::string_view s, std::size_t& bad);

/// The number of one valid character of two to four bytes.
std::uint32_t code_point(std::string_view character);

/// The value in at least `digits` lower-case hexadecimal digits.
std::string hex_text(std::uint32_t value, std::size_t digits);

/// A character that shows nothing, or that moves or reorders what stands around it: controls, bidi
/// controls, line separators, tags, blanks without width. Joiners are none: scripts need them.
bool is_invisible(std::uint32_t point);

}  // namespace ntrace
