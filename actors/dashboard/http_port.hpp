#pragma once
// An HTTP port that strangers reach. One thread waits for all sockets, so a slow sender costs a
// descriptor and some bytes, and holds up nobody. Only whole requests are worked on. Each
// connection is one request, bounded in time and size; all connections together are bounded too.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "config/clock.hpp"
#include "config/host_port.hpp"

namespace ntrace::dashboard {

struct http_limits {
  milliseconds request;    ///< From the connection's acceptance to the request's end.
  std::size_t body_bytes;  ///< A longer one is answered by 413.
  /// At once. Beyond them the oldest one that has not sent its request yet is closed.
  std::size_t connections_max = 512;
  /// Of requests that are read or worked on, together. Beyond it the largest one that is not whole
  /// yet is closed.
  std::size_t bytes_max = 64u << 20;
};

struct http_request {
  std::string path;                              ///< Without the query.
  std::string from;                              ///< The peer's address.
  std::map<std::string, std::string> headers{};  ///< By name in lower case.
  std::string body{};

  /// Empty when it is absent.
  std::string header(const std::string& name) const;
};

struct http_response {
  int status = 200;
  std::string body{};
  std::map<std::string, std::string> headers{};
};

class http_port {
public:
  /// Answers POST of any path; called on one of 16 threads, which it may block.
  using handler = std::function<http_response(const http_request&)>;

  http_port(const http_limits& limits, handler post);
  /// Ends all connections; waits for what `post` is working on, and answers that.
  ~http_port();
  http_port(const http_port&) = delete;
  http_port& operator=(const http_port&) = delete;

  /// Starts its threads. The port; 0 when the address cannot be bound.
  std::uint16_t listen(const host_port& at);

private:
  class engine;
  std::unique_ptr<engine> engine_;
};

}  // namespace ntrace::dashboard
