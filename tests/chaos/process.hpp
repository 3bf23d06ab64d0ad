#pragma once
// A process of the fleet, which faults end and start.
#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "config/clock.hpp"
#include "config/subprocess.hpp"

namespace ntrace::chaos {

/// A program that is started again and again on one node.
class process {
public:
  process(std::string name, std::string network, std::vector<std::string> argv,
          std::vector<std::string> env, std::string log)
      : name_{std::move(name)},
        network_{std::move(network)},
        argv_{std::move(argv)},
        env_{std::move(env)},
        log_{std::move(log)} {}
  ~process() { kill(); }
  process(const process&) = delete;
  process& operator=(const process&) = delete;

  result<void> start();
  void signal(int number) const;
  /// SIGSTOP, until no thread of it is inside a system call any more. False when one still is at
  /// the deadline, or it ended.
  bool stop_all_threads(milliseconds deadline) const;
  void kill();
  /// SIGTERM; its exit code, or -1 when it does not end in time.
  int stop(milliseconds deadline);
  /// The end that nobody caused; empty while it lives.
  std::string died();
  /// Its pid; -1 when it does not run.
  int pid() const { return pid_; }
  bool lives() const;
  /// Runs other words in its network and environment, to their end or the deadline.
  result<subprocess_result> run_beside(const std::vector<std::string>& argv,
                                       milliseconds deadline) const;
  const std::string& name() const { return name_; }
  const std::string& log() const { return log_; }

private:
  std::string name_, network_;
  std::vector<std::string> argv_, env_;
  std::string log_;
  std::atomic<int> pid_{-1};  ///< One thread at a time starts and ends it.
};

/// For loops that look again and again.
void wait_a_little();

}  // namespace ntrace::chaos
