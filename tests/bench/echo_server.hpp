#pragma once
// A server that answers each line at once and keeps nothing: what the machine's own network, with
// the same clients, leaves to a broker.
#include <cstdint>
#include <memory>
#include <thread>

#include "config/file.hpp"
#include "config/result.hpp"

namespace ntrace::bench {

class echo_server {
public:
  /// Serves 127.0.0.1 with one thread until the object is gone.
  static result<std::unique_ptr<echo_server>> start();
  ~echo_server();
  echo_server(const echo_server&) = delete;
  echo_server& operator=(const echo_server&) = delete;
  std::uint16_t port() const { return port_; }

private:
  echo_server() = default;
  void serve();

  unique_fd door_, end_;  ///< end_ becomes readable when it is to end.
  std::uint16_t port_ = 0;
  std::thread thread_;
};

}  // namespace ntrace::bench
