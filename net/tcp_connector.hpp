#pragma once
// Connects to a name without blocking its caller: resolves on a thread of its own, then tries every
// address, both families, 250 ms apart; the first that connects wins (RFC 8305).
#include <sys/socket.h>

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "config/clock.hpp"
#include "config/file.hpp"
#include "config/host_port.hpp"

namespace ntrace::net {

struct tcp_connection {
  unique_fd fd;  ///< Non-blocking, TCP_NODELAY.
  std::chrono::microseconds round_trip;
  unsigned address = 0;  ///< Its place in the order of the name's addresses.
};

/// The order in which addresses of these families are tried: families in turn, as they came within
/// each (RFC 8305, section 4), turned so that number `first` is the first, counted on over the end.
std::vector<std::size_t> order_of_addresses(const std::vector<int>& families, unsigned first);

class tcp_connector {
public:
  /// `first`: the address that is tried first, counted on over their end; the others follow it.
  tcp_connector(const host_port& to, time_point now, milliseconds deadline, unsigned first = 0);
  ~tcp_connector();
  tcp_connector(const tcp_connector&) = delete;
  tcp_connector& operator=(const tcp_connector&) = delete;

  /// Readable when pump() has something to do; for a poll beside others.
  int fd() const { return poll_.get(); }
  /// When pump() must be called though nothing is readable.
  time_point next() const;
  /// The connection, once; ec::unreachable when no address can be reached or at the deadline.
  std::optional<result<tcp_connection>> pump(time_point now);

private:
  struct address {
    sockaddr_storage at;
    socklen_t size;
    unsigned place = 0;
  };
  struct attempt {
    unique_fd fd;
    time_point since;
    unsigned place;
  };
  struct resolution;  ///< Shared with the thread that may outlive us.

  void take_addresses(const std::vector<address>& found);
  bool begin(time_point now);

  host_port to_;
  unsigned first_;
  time_point until_, next_attempt_;
  unique_fd poll_;
  std::shared_ptr<resolution> resolving_;
  std::deque<address> addresses_;
  std::vector<attempt> attempts_;
  int last_errno_ = 0;
  std::string refusal_;  ///< Why nothing was begun.
};

}  // namespace ntrace::net
