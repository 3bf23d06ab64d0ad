#pragma once
// Names of frames made fit to read and safe to print. docs/profiling.md, rules R5–R12. Pure.
#include <string>
#include <string_view>

namespace ntrace::profiler {

/// Drops C++ parameter lists and what follows the last one (R7).
std::string drop_parameters(std::string_view symbol);

/// Makes a name safe for every sink (R8): ';' → ':', control bytes, line separators and bidi
/// controls visible, invalid UTF-8 → U+FFFD, trimmed, at most 4 096 bytes, never empty.
std::string clean_name(std::string_view name);

struct js_style {
  std::string job_folder;   ///< Paths below it become relative (R12); empty: none.
  bool keep_tiers = false;  ///< Keep V8's tier as "[*]" before the name.
};

/// A name from a perf map (R9): prefix and tier go, `name file:line:col` stays.
std::string js_name(std::string_view mapped, const js_style& style);
/// True when R9 knows the name's prefix, so that R11's inline chains do not apply.
bool has_js_prefix(std::string_view mapped);

}  // namespace ntrace::profiler
