#pragma once
// Work that other threads hand to one that waits in epoll_wait(2).
#include <atomic>
#include <functional>
#include <mutex>
#include <vector>

#include "config/file.hpp"

namespace ntrace::net {

class task_queue {
public:
  using task = std::function<void()>;
  task_queue();

  /// From any thread. False once it is closed: the task is dropped.
  bool post(task t);
  /// Drops what waits and takes nothing more.
  void close();

  // For the thread that does the work.
  /// Readable when there is work, if about_to_wait() was called before.
  int fd() const { return wakes_.get(); }
  /// True when there is work already. What is posted later makes fd() readable; a thread that does
  /// not wait is spared the system call.
  bool about_to_wait();
  std::vector<task> take();

private:
  unique_fd wakes_;  ///< An eventfd(2).
  std::mutex guard_;
  std::vector<task> waiting_;
  std::atomic<bool> has_work_{false};
  bool is_awaited_ = false, is_woken_ = false, is_closed_ = false;
};

}  // namespace ntrace::net
