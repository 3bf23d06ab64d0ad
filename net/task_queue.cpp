#include "net/task_queue.hpp"

#include <sys/eventfd.h>

#include <utility>

namespace ntrace::net {

task_queue::task_queue() : wakes_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)} {}

bool task_queue::post(task t) {
  const std::lock_guard lock{guard_};
  if (is_closed_) return false;
  waiting_.push_back(std::move(t));
  has_work_.store(true, std::memory_order_release);
  if (std::exchange(is_awaited_, false)) {
    is_woken_ = true;
    ::eventfd_write(wakes_.get(), 1);
  }
  return true;
}

void task_queue::close() {
  std::vector<task> dropped;  // Their ends may post again: not under the lock.
  const std::lock_guard lock{guard_};
  is_closed_ = true;
  dropped.swap(waiting_);
}

bool task_queue::about_to_wait() {
  const std::lock_guard lock{guard_};
  is_awaited_ = waiting_.empty();
  return !is_awaited_;
}

std::vector<task_queue::task> task_queue::take() {
  if (!has_work_.load(std::memory_order_acquire)) return {};
  const std::lock_guard lock{guard_};
  is_awaited_ = false;
  if (std::exchange(is_woken_, false)) {
    eventfd_t ignored = 0;
    ::eventfd_read(wakes_.get(), &ignored);
  }
  has_work_.store(false, std::memory_order_release);
  return std::exchange(waiting_, {});
}

}  // namespace ntrace::net
