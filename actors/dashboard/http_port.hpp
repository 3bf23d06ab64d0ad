#pragma once
// An HTTP port that strangers reach: each connection is one request, bounded in time and size, so
// that who sends slowly or without end holds a thread for no longer than who does not.
#include <httplib.h>

#include <thread>

#include "config/clock.hpp"
#include "config/file.hpp"
#include "config/settings.hpp"

namespace ntrace::dashboard {

struct http_limits {
  milliseconds request;    ///< From the connection's acceptance to the request's end.
  std::size_t body_bytes;  ///< A longer one is answered by 413.
};

class http_port : private httplib::Server {
public:
  /// Connections that are served at once, each on a thread; further ones wait in the kernel's
  /// backlog.
  static constexpr std::size_t connections_max = 32;

  /// `post` answers POST of any path; on one of several threads at once.
  http_port(const http_limits& limits, Handler post);
  /// Ends all connections; waits for what `post` is working on.
  ~http_port() override;
  http_port(const http_port&) = delete;
  http_port& operator=(const http_port&) = delete;

  /// Starts its thread. The port; 0 when the address cannot be bound.
  std::uint16_t listen(const host_port& at);

private:
  bool process_and_close_socket(socket_t socket) override;

  http_limits limits_;
  unique_fd stops_;  ///< Readable from the end on.
  std::thread thread_;
};

}  // namespace ntrace::dashboard
