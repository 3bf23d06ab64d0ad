#include "tools/text.hpp"

#include <algorithm>
#include <cstdio>

#include "config/clock.hpp"

namespace ntrace::tools {

std::string table(const std::vector<std::vector<std::string>>& rows) {
  const auto width = [](const std::string& s) {
    return static_cast<std::size_t>(std::count_if(
        s.begin(), s.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
  };
  std::vector<std::size_t> widths;
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (widths.size() <= i) widths.push_back(0);
      widths[i] = std::max(widths[i], width(row[i]));
    }
  std::string out;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      out += row[i];
      if (i + 1 < row.size()) out.append(widths[i] - width(row[i]) + 2, ' ');
    }
    out += "\n";
  }
  return out;
}

std::string moment(std::int64_t ms) {
  auto text = format_wall(ms).substr(0, 19);
  text[10] = ' ';
  return text;
}

std::string for_terminal(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f) {
      char visible[8];
      std::snprintf(visible, sizeof visible, "\\x%02x", byte);
      out += visible;
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace ntrace::tools
