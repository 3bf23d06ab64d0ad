#pragma once
// Who uses the fleet while it is shaken: a client that pushes, and a consumer of the old protocol.
#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/chaos/fleet.hpp"

namespace ntrace::chaos {

class load {
public:
  explicit load(fleet& of);
  ~load() { finish(); }
  load(const load&) = delete;
  load& operator=(const load&) = delete;

  /// No more pushes; returns once each that was begun is acknowledged, or a minute has passed.
  void finish();
  /// Run and key of each push that was acknowledged.
  const std::vector<std::pair<std::string, std::string>>& acknowledged() const { return acked_; }
  /// Runs whose wish to be cancelled was acknowledged.
  const std::vector<std::string>& cancelled() const { return cancelled_; }
  std::uint64_t refused() const { return refused_; }
  std::uint64_t consumed() const { return consumed_; }
  /// Keys that were sent and never acknowledged.
  const std::vector<std::string>& unanswered() const { return unanswered_; }

private:
  void push();
  void push_until_answered();
  void consume();

  fleet& fleet_;
  std::atomic<bool> is_over_{false};
  std::atomic<std::uint64_t> refused_{0}, consumed_{0};
  std::vector<std::pair<std::string, std::string>> acked_;  ///< Of the pusher's thread.
  std::vector<std::string> cancelled_, unanswered_;
  std::size_t keys_ = 0;
  std::thread pusher_, consumer_;
};

}  // namespace ntrace::chaos
