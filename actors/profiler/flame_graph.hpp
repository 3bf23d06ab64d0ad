#pragma once
// Stacks as a flame graph: one self-contained, interactive SVG, valid XML whatever the frame names
// are. docs/profiling.md, "Outputs". Pure.
#include <string>

#include "actors/profiler/stacks.hpp"

namespace ntrace::profiler {

struct flame_options {
  std::string title = "Flame graph";
  std::string subtitle;       ///< What was measured: event, frequency, what is missing.
  double narrowest_px = 0.1;  ///< Frames below it, at 1 200 px, are summed as "…(n)".
  std::size_t bytes_max = 8u << 20;
};

/// The SVG. When it would be longer than bytes_max the threshold rises until it fits, and the
/// subtitle says so. The same stacks give the same bytes.
std::string flame_svg(const stack_set& stacks, const flame_options& options);

/// One HTML page: the graph and the table of hottest frames; no network, a strict CSP.
std::string flame_html(const stack_set& stacks, const flame_options& options);

/// `& < > " '` as entities; for text and attributes. The input is what clean_name() gives.
std::string xml_escaped(std::string_view text);

}  // namespace ntrace::profiler
