#pragma once
// Small readers of text files, line by line. Pure.
#include <algorithm>
#include <string_view>

namespace ntrace::runner {

/// Takes the first line off `text`, without its end: LF or CR LF.
inline std::string_view take_line(std::string_view& text) {
  const auto end = std::min(text.find('\n'), text.size());
  auto line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

/// Without blanks and tabs at its ends.
inline std::string_view trimmed(std::string_view text) {
  const auto from = text.find_first_not_of(" \t");
  if (from == text.npos) return {};
  return text.substr(from, text.find_last_not_of(" \t") - from + 1);
}

}  // namespace ntrace::runner
