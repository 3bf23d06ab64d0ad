#pragma once
// A process beside each zone that has a lease. A timer of the kernel kills it when the lease is
// over, and the kernel kills the zone's init with it: nobody has to run for that, so it holds also
// when runner, helper, init and this process are all stopped.
#include <utility>

#include "config/file.hpp"
#include "config/result.hpp"

namespace ntrace::zone {

class lease_watchdog {
public:
  /// For the helper, which has one thread. ec::stale_lease when the lease in the page is over
  /// already.
  static result<lease_watchdog> start(int init, int init_pidfd, unique_fd page);
  lease_watchdog(lease_watchdog&& other) noexcept
      : pid_{std::exchange(other.pid_, -1)}, is_tied_{other.is_tied_} {}
  lease_watchdog& operator=(lease_watchdog&&) = delete;
  /// Ends it, and the zone's init.
  ~lease_watchdog();

  /// The kernel ties the two together; where it may not (kernel.yama.ptrace_scope = 3), the
  /// watchdog has to run to kill init.
  bool is_tied() const { return is_tied_; }

private:
  lease_watchdog(int pid, bool is_tied) : pid_{pid}, is_tied_{is_tied} {}
  int pid_;
  bool is_tied_;
};

}  // namespace ntrace::zone
