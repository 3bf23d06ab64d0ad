#include "tools/text.hpp"

#include <locale.h>
#include <wchar.h>

#include <algorithm>

#include "config/clock.hpp"
#include "config/utf8.hpp"

namespace ntrace::tools {
namespace {

constexpr std::size_t marks_max = 4;  // Upon one character: more are stacked over other lines.

/// wcwidth(3) of the C library's UTF-8 locale, whatever locale the process has.
int columns_of(std::uint32_t point) {
  static const locale_t unicode = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  if (!unicode) return 1;
  const auto before = ::uselocale(unicode);
  const int columns = ::wcwidth(static_cast<wchar_t>(point));
  ::uselocale(before);
  return columns;
}

/// One character of UTF-8, its bytes and its columns.
struct character {
  std::size_t bytes = 1, columns = 1;
};

character first_of(std::string_view text) {
  std::size_t bad = 1;
  const auto bytes = utf8_length(text, bad);
  if (bytes <= 1) return {};
  const auto columns = columns_of(code_point(text.substr(0, bytes)));
  return {bytes, columns < 0 ? 1 : static_cast<std::size_t>(columns)};
}

}  // namespace

std::size_t display_width(std::string_view text) {
  std::size_t out = 0;
  while (!text.empty()) {
    const auto one = first_of(text);
    out += one.columns;
    text.remove_prefix(one.bytes);
  }
  return out;
}

std::string cut_to_width(const std::string& text, std::size_t width, std::string_view mark) {
  const bool is_cut = display_width(text) > width;
  const auto room = is_cut ? width - std::min(width, display_width(mark)) : width;
  std::string out;
  std::size_t columns = 0, marks = 0;
  for (std::string_view rest{text}; !rest.empty();) {
    const auto one = first_of(rest);
    if (columns + one.columns > room) break;
    marks = one.columns == 0 ? marks + 1 : 0;
    columns += one.columns;
    if (marks <= marks_max) out += rest.substr(0, one.bytes);
    rest.remove_prefix(one.bytes);
  }
  if (is_cut && width > display_width(mark)) out += mark;
  return is_cut && width <= display_width(mark) ? "" : out;
}

std::string table(std::vector<std::vector<std::string>> rows) {
  // A peer's text must not begin a line of its own, nor hide another cell.
  for (auto& row : rows)
    for (auto& cell : row) cell = one_line(cell);
  std::vector<std::size_t> widths;
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (widths.size() <= i) widths.push_back(0);
      widths[i] = std::max(widths[i], display_width(row[i]));
    }
  std::string out;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      out += row[i];
      if (i + 1 < row.size()) out.append(widths[i] - display_width(row[i]) + 2, ' ');
    }
    out += "\n";
  }
  return out;
}

std::string shortened(const std::string& text, std::size_t characters) {
  std::size_t seen = 0;
  for (std::size_t i = 0; i < text.size(); ++i)
    if (!is_continuation(text[i]) && ++seen > characters) return text.substr(0, i) + "…";
  return text;
}

std::string moment(std::int64_t ms) {
  auto text = format_wall(ms).substr(0, 19);
  text[10] = ' ';
  return text;
}

}  // namespace ntrace::tools
