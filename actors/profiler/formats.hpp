#pragma once
// Stacks for other programs and for terminals. docs/profiling.md, "Outputs". Pure.
#include <string>

#include "actors/profiler/stacks.hpp"

namespace ntrace::profiler {

/// "12.3%"; "0.0%" of nothing.
std::string percent_text(std::uint64_t part, std::uint64_t whole);

/// The table of hottest frames: self, total, frame; `width` columns at most (0: any).
std::string hottest_table(const stack_set& stacks, std::size_t rows, std::size_t width);

/// speedscope's file format, type "sampled", one weight per distinct stack.
std::string speedscope_json(const stack_set& stacks, std::string_view name);

/// pprof's profile.proto, uncompressed: samples/count and cpu/nanoseconds at `frequency` per
/// second. gzip it for `go tool pprof`, which also reads it as it is.
std::string pprof_bytes(const stack_set& stacks, std::uint64_t frequency);

}  // namespace ntrace::profiler
