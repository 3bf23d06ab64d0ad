#pragma once
// The standard input of a program in a zone.
#include <poll.h>

#include <optional>
#include <string>

#include "config/file.hpp"
#include "config/result.hpp"

namespace ntrace::zone {

/// Passes on what the caller's descriptor gives, through a pipe of the zone's own: the descriptor
/// may be a file, a terminal or a socket of the host's, which nothing in the zone may lock, change,
/// open again or hold. The end is passed on, too; what the program does not read stays unread.
class job_input {
public:
  job_input() = default;
  /// `from` stays the caller's; the program reads what is written to `to`, which must not block.
  job_input(int from, unique_fd to) : from_{from}, to_{std::move(to)} {}

  /// What it waits for.
  pollfd awaited() const {
    if (!to_) return {-1, 0, 0};
    return waiting_.empty() ? pollfd{from_, POLLIN, 0} : pollfd{to_.get(), POLLOUT, 0};
  }
  /// To be called when awaited() came about; it does not block.
  void pass_on();
  void close() { to_.reset(); }
  /// Why it ended before the end of what there was to read.
  const std::optional<error>& failed() const { return failed_; }

private:
  int from_ = -1;
  unique_fd to_;
  std::string waiting_;  ///< Read, and not taken by the program.
  std::optional<error> failed_;
};

}  // namespace ntrace::zone
