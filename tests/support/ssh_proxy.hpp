#pragma once
// A TCP proxy before an SSH server that damages or cuts what the server says.
#include <poll.h>

#include <atomic>
#include <cstdint>
#include <thread>

#include "net/socket.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/program.hpp"

namespace ntrace::test {

class ssh_proxy {
public:
  enum class fault { none, flip_a_bit, cut };

  explicit ssh_proxy(host_port to)
      : to_{std::move(to)},
        port_{free_port()},
        listener_{ok(net::listen_tcp(at(), 16))},
        thread_{[this] { run(); }} {}
  ~ssh_proxy() {
    stop_.raise();
    thread_.join();
  }
  host_port at() const { return {"127.0.0.1", static_cast<std::uint16_t>(port_)}; }
  /// Does it to the byte of the server's that comes after so many more.
  void arm(fault what, std::uint64_t after) {
    left_ = after;
    fault_ = what;
  }
  bool is_armed() const { return fault_ != fault::none; }

private:
  void run() {
    std::vector<std::thread> lines;
    while (net::wait_ready(listener_.get(), false, std::chrono::hours{1}, &stop_)) {
      unique_fd client{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
      auto server = net::connect_tcp(to_, std::chrono::seconds{5});
      if (client && server)
        lines.emplace_back([this, a = std::move(client), b = std::move(*server)] { pass(a, b); });
    }
    for (auto& one : lines) one.join();
  }
  void pass(const unique_fd& client, const unique_fd& server) {
    std::string bytes(64 << 10, '\0');
    for (;;) {
      std::array<pollfd, 3> fds{
          {{client.get(), POLLIN, 0}, {server.get(), POLLIN, 0}, {stop_.fd(), POLLIN, 0}}};
      ::poll(fds.data(), fds.size(), -1);
      if (fds[2].revents != 0) return;
      for (const std::size_t side : {0u, 1u}) {
        if (fds[side].revents == 0) continue;
        const auto n = ::recv(fds[side].fd, bytes.data(), bytes.size(), 0);
        if (n <= 0) return;
        auto size = static_cast<std::size_t>(n);
        const bool ends = side == 1 && spoil(bytes, size);
        if (!net::send_all(fds[1 - side].fd, {bytes.data(), size}, std::chrono::seconds{10}) ||
            ends)
          return;
      }
    }
  }
  /// True when the line ends after these bytes.
  bool spoil(std::string& bytes, std::size_t& size) {
    if (fault_ == fault::none) return false;
    if (left_ >= size) {
      left_ -= size;
      return false;
    }
    const auto what = fault_.exchange(fault::none);
    if (what == fault::flip_a_bit) bytes[left_] = static_cast<char>(bytes[left_] ^ 4);
    if (what != fault::cut) return false;
    size = left_;
    return true;
  }

  host_port to_;
  int port_;
  unique_fd listener_;
  cancellation stop_;
  std::atomic<fault> fault_{fault::none};
  std::atomic<std::uint64_t> left_{0};
  std::thread thread_;
};

}  // namespace ntrace::test
