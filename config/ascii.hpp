#pragma once
// ASCII in bytes of any origin: letters, blanks, lines, hexadecimal digits. The locale has no say,
// and all other bytes stay as they are. Pure.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ntrace {

inline constexpr std::string_view blanks = " \t";

std::string lowered(std::string_view text);
std::string uppered(std::string_view text);

/// Without the bytes of `what` at its ends.
std::string_view trimmed(std::string_view text, std::string_view what = blanks);

/// Takes the first line off `text`, without its end: LF or CR LF.
std::string_view take_line(std::string_view& text);

/// The number that all of the text is, in decimal digits with at most a minus before them.
std::optional<std::int64_t> whole_number(std::string_view text);

/// The value of one hexadecimal digit of either case.
std::optional<unsigned> hex_value(char digit);

/// The value in at least `digits` lower-case hexadecimal digits.
std::string hex_text(std::uint64_t value, std::size_t digits);

/// Two lower-case hexadecimal digits for each byte.
std::string hex_of(std::string_view bytes);

/// Each % with two hexadecimal digits becomes its byte (RFC 3986, section 2.1); other ones stay.
std::string percent_decoded(std::string_view text);

}  // namespace ntrace
