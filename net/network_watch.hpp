#pragma once
// Tells when links, addresses or routes of this machine changed (rtnetlink(7)), so that a caller
// that waits for its next dial need not wait longer.
#include "config/file.hpp"

namespace ntrace::net {

class network_watch {
public:
  /// Of the caller's network namespace. Without the right to listen it never tells anything.
  network_watch();
  /// To be polled for input; -1 when it tells nothing.
  int fd() const { return socket_.get(); }
  /// True when something changed since the last call.
  bool has_changed();

private:
  unique_fd socket_;
};

}  // namespace ntrace::net
