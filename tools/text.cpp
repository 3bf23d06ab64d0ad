#include "tools/text.hpp"

#include <algorithm>

#include "config/clock.hpp"

namespace ntrace::tools {

std::string table(std::vector<std::vector<std::string>> rows) {
  // A cell of a peer's must not begin a line of its own, nor hide another.
  for (auto& row : rows)
    for (auto& cell : row) cell = one_line(cell);
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

std::string shortened(const std::string& text, std::size_t characters) {
  std::size_t seen = 0;
  for (std::size_t i = 0; i < text.size(); ++i)
    if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80 && ++seen > characters)
      return text.substr(0, i) + "…";
  return text;
}

std::string moment(std::int64_t ms) {
  auto text = format_wall(ms).substr(0, 19);
  text[10] = ' ';
  return text;
}

}  // namespace ntrace::tools
