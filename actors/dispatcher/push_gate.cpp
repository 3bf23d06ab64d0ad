#include "actors/dispatcher/push_gate.hpp"

#include <utility>

#include "config/gauges.hpp"
#include "config/limits.hpp"
#include "config/mutation.hpp"

namespace ntrace::dispatcher {
namespace {

// What a peer that pushes nonsense, or at a full queue, can make the journal write.
constexpr milliseconds refusal_window{60'000};
constexpr std::uint64_t refusals_per_window = 120;
constexpr std::size_t early_pushes_max = 65'536;

std::atomic<std::int64_t>& not_queued() {
  static auto& gauge = gauges::value("pushes_behind_the_gate");
  return gauge;
}

}  // namespace

result<void> push_gate::may_push() {
  if (is_draining_ || is_stopping_)
    return fail(ec::draining,
                "the dispatcher drains and takes no new work; `ntrace resume` ends that");
  const std::lock_guard lock{guard_};
  if (open_runs_ + runs_.size() >= limits::pushes_queued_max)
    return fail(ec::overloaded, "the queue holds " + std::to_string(limits::pushes_queued_max) +
                                    " runs; push again later");
  if (is_recovering_ && pushed_early_++ >= early_pushes_max)
    return fail(ec::overloaded, "the dispatcher still reads its queue; push again in a moment");
  return {};
}

void push_gate::add(std::vector<run_row> runs) {
  if (runs.empty() || mutated(mutation::push_not_given_to_queue)) return;
  const std::lock_guard lock{guard_};
  if (runs_.empty())
    runs_ = std::move(runs);
  else
    runs_.insert(runs_.end(), std::move_iterator{runs.begin()}, std::move_iterator{runs.end()});
  not_queued() = static_cast<std::int64_t>(runs_.size());
  if (!has_runs_.exchange(true) && wake_) wake_();
}

std::vector<run_row> push_gate::take() {
  if (is_empty()) return {};
  const std::lock_guard lock{guard_};
  has_runs_ = false;
  not_queued() = 0;
  return std::exchange(runs_, {});
}

void push_gate::on_first(std::function<void()> wake) {
  const std::lock_guard lock{guard_};
  wake_ = std::move(wake);
  if (has_runs_ && wake_) wake_();
}

void push_gate::begin_recovery() {
  const std::lock_guard lock{guard_};
  runs_.clear();
  not_queued() = 0;
  has_runs_ = false;
  is_recovering_ = true;
  pushed_early_ = 0;
}

void push_gate::end_recovery() {
  const std::lock_guard lock{guard_};
  is_recovering_ = false;
}

bool push_gate::note_refused(time_point now) {
  ++refused_;
  const std::lock_guard lock{guard_};
  if (now >= refusals_end_) {
    refusals_end_ = now + refusal_window;
    refusals_ = 0;
  }
  if (++refusals_ <= refusals_per_window) return true;
  ++unrecorded_;
  return false;
}

}  // namespace ntrace::dispatcher
