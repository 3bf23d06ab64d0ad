#pragma once
// Text of profilers to stacks: `perf script`, DTrace aggregations, V8's .cpuprofile, folded lines.
// docs/profiling.md, "Folding rules". Pure; never throws, whatever the bytes.
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "actors/profiler/frame_name.hpp"
#include "actors/profiler/perf_map.hpp"
#include "actors/profiler/stacks.hpp"

namespace ntrace::profiler {

enum class stack_format { perf, dtrace, cpuprofile, folded };
/// "perf", "dtrace", "cpuprofile" or "folded".
std::optional<stack_format> stack_format_from(std::string_view word);

/// Decides from the first 64 KiB; ec::not_recognised names what was tried.
result<stack_format> detect_format(std::string_view head);

struct fold_options {
  enum class weight { samples, period, time };
  weight count = weight::samples;
  std::string event;                ///< Only this one; empty: the first seen; "all": every one.
  bool with_pid = false;            ///< Root frames "comm-pid".
  bool with_tid = false;            ///< Root frames "comm-pid/tid".
  bool merge_recursion = false;     ///< Join direct repeats of a frame.
  bool with_idle = false;           ///< Keep V8's (idle).
  std::size_t sampler_depth = 127;  ///< A perf stack this deep has lost its root (R13).
  js_style js;
  std::map<int, perf_map> maps;  ///< JIT symbols by the pid that perf saw.
  std::shared_ptr<const kernel_symbols> kernel;
};

/// What was folded and what was not.
struct fold_report {
  std::uint64_t samples = 0;
  std::uint64_t skipped_lines = 0;
  std::vector<std::string> first_skipped;             ///< "line 7: …", at most five.
  std::map<std::string, std::uint64_t> other_events;  ///< Samples of events not folded.
  std::string event;                                  ///< The one folded, when the format names it.
  std::uint64_t unresolved_jit = 0;                   ///< Samples with a JIT frame without a name.
  std::uint64_t ambiguous_jit = 0;
  std::uint64_t truncated = 0;  ///< Stacks that lost their root.
  std::uint64_t negative_deltas = 0;
};

struct folding {
  stack_set stacks;
  fold_report report;
};

/// Folds the whole input in the given format.
result<folding> fold(std::string_view input, stack_format format, const fold_options& options = {});

// One function per format; fold() chooses among them.
result<folding> fold_perf(std::string_view input, const fold_options& options);
result<folding> fold_dtrace(std::string_view input, const fold_options& options);
result<folding> fold_cpuprofile(std::string_view input, const fold_options& options);
result<folding> fold_folded(std::string_view input, const fold_options& options);

/// Undoes a BOM, UTF-16 and gzip or zstd packing (ratio at most 200, 8 GiB). ec::truncated.
result<std::string> unpack_input(std::string input);

/// Splits into lines without their ends; lines above 1 MiB are cut. Pure.
class line_reader {
public:
  explicit line_reader(std::string_view text) : rest_{text} {}
  /// The next line; false at the end. A last line without an end counts.
  bool next(std::string_view& line);
  std::uint64_t number() const { return number_; }

private:
  std::string_view rest_;
  std::uint64_t number_ = 0;
};

/// Counts a line that fits nowhere, and keeps the first five.
void skip_line(fold_report& report, std::uint64_t number, std::string_view line);

}  // namespace ntrace::profiler
