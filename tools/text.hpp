#pragma once
// Text for people on a terminal.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ntrace::tools {

/// Aligned columns; the first row is the head.
std::string table(const std::vector<std::vector<std::string>>& rows);
/// A moment for people: "2026-01-31 12:00:00".
std::string moment(std::int64_t ms);
/// Text of a job for a terminal: control bytes but newline and tab made visible.
std::string for_terminal(std::string_view text);

}  // namespace ntrace::tools
