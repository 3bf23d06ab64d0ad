#pragma once
// Folds the text of `perf script` line by line, so that a capture of any length takes memory for
// its distinct stacks only. Pure.
#include "actors/profiler/fold.hpp"

namespace ntrace::profiler {

class perf_folder {
public:
  /// `options` must outlive the folder.
  explicit perf_folder(const fold_options& options) : options_{options} {}
  /// The next line, without its end; `number` counts from 1.
  result<void> on_line(std::string_view line, std::uint64_t number);
  /// The last sample's end. ec::not_perf_text when most lines were something else.
  result<folding> finish();

  /// A sample's first line, as views into it.
  struct header {
    std::string_view comm, pid, tid, event;
    std::uint64_t period = 1;
    double seconds = 0;
  };
  /// One frame of it.
  struct frame_line {
    std::uint64_t address = 0;
    std::string_view symbol, dso;
  };

private:
  void begin(const header& h);
  void on_frame(const frame_line& f);
  void on_jit_frame(const frame_line& f);
  void push(const std::string& name);
  result<void> close();
  std::uint64_t weight();

  const fold_options& options_;
  folding out_;
  std::vector<stack_set::frame_id> leaf_first_;
  stack_set::frame_id root_ = 0;
  std::string pid_text_;
  int pid_ = -1;
  std::size_t frames_ = 0;
  std::uint64_t non_blank_ = 0, period_ = 1;
  double seconds_ = 0, last_seconds_ = -1;
  bool open_ = false, wanted_ = false, has_unresolved_ = false, has_ambiguous_ = false;
};

/// Cuts a stream of pieces into lines and hands each to a perf_folder.
class perf_feed {
public:
  explicit perf_feed(perf_folder& folder) : folder_{folder} {}
  result<void> on_bytes(std::string_view bytes);
  /// The last line without an end.
  result<void> finish();

private:
  perf_folder& folder_;
  std::string rest_;
  std::uint64_t number_ = 0;
};

}  // namespace ntrace::profiler
