#pragma once
// The users of the fleet while it is shaken: a client that pushes, and a consumer of the old
// protocol.
#include <atomic>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/chaos/fleet.hpp"

namespace ntrace::chaos {

struct acknowledged_push {
  std::string run, key;
  job what = job::passes;
};

class load {
public:
  explicit load(fleet& of);
  ~load() { finish(); }
  load(const load&) = delete;
  load& operator=(const load&) = delete;

  /// No more pushes; returns once each that was begun is acknowledged, or a minute has passed.
  void finish();
  const std::vector<acknowledged_push>& acknowledged() const { return acked_; }
  /// Runs whose wish to be cancelled was acknowledged.
  const std::vector<std::string>& cancelled() const { return cancelled_; }
  /// Runs that somebody wished to be cancelled, acknowledged or not.
  const std::set<std::string>& unwanted() const { return unwanted_; }
  /// What the names of the repositories begin with, on this machine ours alone.
  static std::string mark();
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
  std::vector<acknowledged_push> acked_;  ///< Of the pusher's thread.
  std::vector<std::string> cancelled_, unanswered_;
  std::set<std::string> unwanted_;
  std::size_t keys_ = 0;
  std::thread pusher_, consumer_;
};

}  // namespace ntrace::chaos
