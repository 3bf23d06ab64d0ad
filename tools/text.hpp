#pragma once
// Text for people on a terminal.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "config/terminal_text.hpp"

namespace ntrace::tools {

/// Aligned columns; the first row is the head. Each cell becomes one harmless line.
std::string table(std::vector<std::vector<std::string>> rows);
/// Columns of a terminal that the characters of this UTF-8 text fill; 1 for what is none.
std::size_t display_width(std::string_view text);
/// At most `width` columns of it, with `mark` where something was cut.
std::string cut_to_width(const std::string& text, std::size_t width, std::string_view mark);
/// At most `characters` of it, with "…" where something was cut.
std::string shortened(const std::string& text, std::size_t characters);
/// A moment for people: "2026-01-31 12:00:00".
std::string moment(std::int64_t ms);

}  // namespace ntrace::tools
