#pragma once
// The proxy of the install step over real sockets, with servers behind it.
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <list>
#include <mutex>
#include <thread>

#include <gtest/gtest.h>

#include "config/gauges.hpp"
#include "net/egress_proxy.hpp"
#include "net/socket.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/tls_hello.hpp"

namespace ntrace::test {

using namespace ntrace::net;
using namespace std::chrono_literals;

inline std::uint16_t port_of(const unique_fd& listener) {
  sockaddr_in at{};
  socklen_t size = sizeof at;
  ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&at), &size);
  return ntohs(at.sin_port);
}

inline unique_fd listen_somewhere() { return ok(listen_tcp({"127.0.0.1", 0}, 16)); }

/// What comes until the other side closes, or for `deadline`.
inline std::string read_to_end(int fd, milliseconds deadline = 10s) {
  std::string out;
  char block[65536];
  while (wait_ready(fd, false, deadline)) {
    const auto n = ::recv(fd, block, sizeof block, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) continue;
    if (n <= 0) break;
    out.append(block, static_cast<std::size_t>(n));
  }
  return out;
}

inline std::string read_some(int fd, std::size_t size) {
  std::string out(size, '\0');
  std::size_t at = 0;
  while (at < size && wait_ready(fd, false, 10s)) {
    const auto n = ::recv(fd, out.data() + at, size - at, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) continue;
    if (n <= 0) break;
    at += static_cast<std::size_t>(n);
  }
  out.resize(at);
  return out;
}

/// A TLS ClientHello for `name`, and nothing after it.
inline std::string hello_for(const std::string& name) {
  return tls_record(tls_hello({server_name(name)}));
}

/// Takes connections and does `serve` with each, on a thread of its own.
class upstream {
public:
  explicit upstream(std::function<void(int)> serve)
      : serve_{std::move(serve)}, acceptor_{[this] { accept_all(); }} {}
  ~upstream() {
    stop_.raise();
    acceptor_.join();
    for (auto& one : served_) one.join();
  }
  upstream(const upstream&) = delete;
  upstream& operator=(const upstream&) = delete;
  std::uint16_t port() const { return port_of(listener_); }
  int accepted() const { return accepted_; }

private:
  void accept_all() {
    while (!stop_.is_raised()) {
      if (!wait_ready(listener_.get(), false, 60s, &stop_)) continue;
      const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (fd < 0) continue;
      ++accepted_;
      served_.emplace_back([this, fd] {
        const unique_fd own{fd};
        serve_(fd);
      });
    }
  }
  std::function<void(int)> serve_;
  unique_fd listener_ = listen_somewhere();
  cancellation stop_;
  std::atomic<int> accepted_{0};
  std::list<std::thread> served_;
  std::thread acceptor_;
};

inline void echo(int fd) {
  char block[4096];
  while (wait_ready(fd, false, 20s)) {
    const auto n = ::recv(fd, block, sizeof block, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) continue;
    if (n <= 0 || !send_all(fd, {block, static_cast<std::size_t>(n)}, 20s)) return;
  }
}

class egress_test : public ::testing::Test {
protected:
  void start(std::vector<std::string> allow, bool with_private = true,
             egress_options options = {}) {
    for (const auto& text : allow) {
      options.allow.push_back(ok(parse_allow_entry(text)));
      options.allow.back().allow_private = with_private;
    }
    auto listener = listen_somewhere();
    port_ = port_of(listener);
    proxy_ = std::make_unique<egress_proxy>(std::move(listener), options,
                                            [this](const egress_report& r) {
                                              const std::lock_guard lock{guard_};
                                              reports_.push_back(r);
                                            });
  }
  unique_fd client() { return ok(connect_tcp({"127.0.0.1", port_}, 5s)); }
  /// A connection on which `text` was sent.
  unique_fd say(const std::string& text) {
    auto fd = client();
    EXPECT_TRUE(send_all(fd.get(), text, 5s));
    return fd;
  }
  std::string connect_to(const std::string& host, std::uint16_t port) {
    const auto at = host + ":" + std::to_string(port);
    return "CONNECT " + at + " HTTP/1.1\r\nHost: " + at + "\r\n\r\n";
  }
  /// A tunnel to the server at localhost, on which its hello was sent.
  unique_fd tunnel_to(std::uint16_t port) {
    auto fd = say(connect_to("localhost", port));
    EXPECT_EQ(read_some(fd.get(), established.size()), established);
    EXPECT_TRUE(send_all(fd.get(), hello_for("localhost"), 5s));
    return fd;
  }
  egress_report last_report() {
    egress_report out;
    eventually(10s, [&] {
      const std::lock_guard lock{guard_};
      if (reports_.empty()) return false;
      out = reports_.back();
      return true;
    });
    return out;
  }
  static constexpr std::string_view established = "HTTP/1.1 200 Connection established\r\n\r\n";

  std::uint16_t port_ = 0;
  std::mutex guard_;
  std::vector<egress_report> reports_;
  std::unique_ptr<egress_proxy> proxy_;  ///< Last: it reports until it is gone.
};

}  // namespace ntrace::test
