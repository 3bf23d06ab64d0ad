#pragma once
// The least that a server can do, for the limits of all others: it answers each line at once, or
// after it appended the line to a file and synced that.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "config/file.hpp"
#include "config/result.hpp"

namespace ntrace::bench {

class bare_server {
public:
  /// Serves 127.0.0.1 with one thread until the object is gone. `log`: the file; keeps nothing when
  /// it is empty.
  static result<std::unique_ptr<bare_server>> start(const std::string& log = "");
  ~bare_server();
  bare_server(const bare_server&) = delete;
  bare_server& operator=(const bare_server&) = delete;
  std::uint16_t port() const { return port_; }

private:
  bare_server() = default;
  void serve();
  bool keep(std::string_view line);

  unique_fd log_;
  std::size_t log_end_ = 0;
  unique_fd door_, end_;  ///< end_ becomes readable when it is to end.
  std::uint16_t port_ = 0;
  std::thread thread_;
};

}  // namespace ntrace::bench
