#pragma once
// Between who takes pushes (intake_fsm), who writes them (the journal) and who works on them
// (queue_fsm): whether one may come in, and those that came in and are not in the queue yet.
// A push is here before it is acknowledged, so who takes them out first sees whatever was promised.
#include <atomic>
#include <functional>
#include <mutex>
#include <vector>

#include "actors/domain/run.hpp"
#include "actors/journal/run_sink.hpp"
#include "config/clock.hpp"
#include "config/result.hpp"

namespace ntrace::dispatcher {

using domain::run_row;

/// Thread-safe. One for the whole life of a process, over restarts of all who use it.
class push_gate final : public journal::run_sink {
public:
  /// Whether a new push may be written; ec::draining or overloaded says why not. Bounds what is
  /// open; what is just being written is not known here, and comes on top.
  result<void> may_push();

  void add(std::vector<run_row> runs) override;
  /// Those since the last call. From then on `wake` is called again when there are more.
  std::vector<run_row> take();
  bool is_empty() const { return !has_runs_.load(std::memory_order_acquire); }
  /// Called by add() when there was nothing, on its thread; must be quick and not call back.
  void on_first(std::function<void()> wake);

  /// How long the queue is will be known only at the end.
  void begin_recovery() override;
  void end_recovery();
  void set_open_runs(std::size_t count) { open_runs_ = count; }
  void set_draining(bool is) { is_draining_ = is; }
  void set_stopping() { is_stopping_ = true; }

  /// A push was refused; true when it is one of those that are recorded.
  bool note_refused(time_point now);
  /// One of those could not be recorded.
  void note_unrecorded() { ++unrecorded_; }
  /// A push was refused for want of the journal, which so cannot record it.
  void note_turned_away() {
    ++refused_;
    ++unrecorded_;
  }
  std::uint64_t refused() const { return refused_; }
  std::uint64_t refused_unrecorded() const { return unrecorded_; }

private:
  std::mutex guard_;
  std::vector<run_row> runs_;
  std::function<void()> wake_;
  std::atomic<bool> has_runs_{false}, is_draining_{false}, is_stopping_{false};
  std::atomic<std::size_t> open_runs_{0};
  bool is_recovering_ = false;
  std::size_t pushed_early_ = 0;  ///< While recovering.
  std::atomic<std::uint64_t> refused_{0}, unrecorded_{0};
  time_point refusals_end_{};   ///< Of the present window.
  std::uint64_t refusals_ = 0;  ///< In it.
};

}  // namespace ntrace::dispatcher
