// The proxy of the install step over real sockets: what it lets through, what it refuses, and that
// nobody holds up another. docs/zones.md, "Network".
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

using namespace ntrace;
using namespace ntrace::net;
using namespace std::chrono_literals;
using test::ok;

namespace {

std::uint16_t port_of(const unique_fd& listener) {
  sockaddr_in at{};
  socklen_t size = sizeof at;
  ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&at), &size);
  return ntohs(at.sin_port);
}

unique_fd listen_somewhere() { return ok(listen_tcp({"127.0.0.1", 0}, 16)); }

/// What comes until the other side closes, or for `deadline`.
std::string read_to_end(int fd, milliseconds deadline = 10s) {
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

std::string read_some(int fd, std::size_t size) {
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

/// A TLS ClientHello for `name` (RFC 8446, 4.1.2; RFC 6066, 3), and nothing after it.
std::string hello_for(const std::string& name) {
  const auto two = [](std::size_t n) {
    return std::string{static_cast<char>(n >> 8), static_cast<char>(n & 255)};
  };
  const auto entry = std::string(1, '\0') + two(name.size()) + name;
  const auto list = two(entry.size()) + entry;
  const auto sni = two(0) + two(list.size()) + list;
  const auto body = std::string{"\x03\x03"} + std::string(32, 'r') + std::string(1, '\0') + two(2) +
                    "\x13\x01" + std::string("\x01\0", 2) + two(sni.size()) + sni;
  const auto hello = std::string("\x01\0", 2) + two(body.size()) + body;
  return std::string("\x16\x03\x01", 3) + two(hello.size()) + hello;
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

void echo(int fd) {
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
  egress_report last_report() {
    egress_report out;
    test::eventually(10s, [&] {
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

}  // namespace

TEST_F(egress_test, passes_tls_for_the_name_that_was_asked_for) {
  upstream server{echo};
  start({"localhost:" + std::to_string(server.port())});
  const auto fd = say(connect_to("localhost", server.port()));
  EXPECT_EQ(read_some(fd.get(), established.size()), established);
  const auto bytes = hello_for("localhost") + "more";
  ASSERT_TRUE(send_all(fd.get(), bytes, 5s));
  EXPECT_EQ(read_some(fd.get(), bytes.size()), bytes);
  ::shutdown(fd.get(), SHUT_WR);
  EXPECT_EQ(read_to_end(fd.get()), "");
  const auto told = last_report();
  EXPECT_TRUE(told.allowed);
  EXPECT_EQ(told.reason, "");
  EXPECT_EQ(told.host, "localhost");
  EXPECT_EQ(told.bytes, 2 * bytes.size());
}

TEST_F(egress_test, refuses_what_is_not_on_the_list_with_the_line_to_add) {
  upstream server{echo};
  start({"registry.example"});
  const auto fd = say(connect_to("localhost", server.port()));
  const auto answer = read_to_end(fd.get());
  EXPECT_EQ(answer.rfind("HTTP/1.1 403 ", 0), 0u) << answer;
  const auto told = last_report();
  EXPECT_FALSE(told.allowed);
  EXPECT_NE(told.reason.find("\"localhost:" + std::to_string(server.port()) + "\""),
            std::string::npos)
      << told.reason;
  EXPECT_EQ(server.accepted(), 0);
}

TEST_F(egress_test, refuses_a_name_that_leads_to_a_private_address) {
  upstream server{echo};
  start({"localhost:" + std::to_string(server.port())}, false);
  const auto fd = say(connect_to("localhost", server.port()));
  EXPECT_EQ(read_to_end(fd.get()).rfind("HTTP/1.1 403 ", 0), 0u);
  EXPECT_NE(last_report().reason.find("private"), std::string::npos);
  EXPECT_EQ(server.accepted(), 0);
}

TEST_F(egress_test, closes_what_is_not_tls_or_asks_for_another_name) {
  std::mutex guard;
  std::string seen;
  upstream server{[&](int fd) {
    const auto all = read_to_end(fd);
    const std::lock_guard lock{guard};
    seen += all;
  }};
  egress_options options;
  options.head_deadline = 300ms;
  start({"localhost:" + std::to_string(server.port())}, true, options);
  for (const auto& first : {std::string{"SSH-2.0-OpenSSH_9.2\r\n"}, hello_for("evil.example"),
                            hello_for("localhost.evil.example"), hello_for(""), std::string{}}) {
    const auto fd = say(connect_to("localhost", server.port()));
    EXPECT_EQ(read_some(fd.get(), established.size()), established);
    ASSERT_TRUE(send_all(fd.get(), first, 5s));
    EXPECT_EQ(read_to_end(fd.get()), "");
    EXPECT_FALSE(last_report().allowed) << first;
  }
  proxy_.reset();
  const std::lock_guard lock{guard};
  EXPECT_EQ(seen, "") << "nothing of it reaches the other side";
}

TEST_F(egress_test, forwards_a_request_in_absolute_form) {
  upstream server{[](int fd) {
    const auto head = read_some(fd, 4);
    // What was asked comes back as the body, as far as it came at once.
    char more[4096];
    const auto n = std::max<ssize_t>(::recv(fd, more, sizeof more, MSG_DONTWAIT), 0);
    const auto body = head + std::string{more, static_cast<std::size_t>(n)};
    send_all(fd,
             "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " +
                 std::to_string(body.size()) + "\r\n\r\n" + body,
             5s);
  }};
  const auto at = "localhost:" + std::to_string(server.port());
  start({at});
  const auto fd =
      say("GET http://" + at +
          "/left-pad HTTP/1.1\r\nHost: evil.example\r\n"
          "Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic c2VjcmV0\r\n\r\n");
  const auto answer = read_to_end(fd.get());
  EXPECT_NE(answer.find("GET /left-pad HTTP/1.1\r\n"), std::string::npos) << answer;
  EXPECT_NE(answer.find("ost: " + at), std::string::npos) << "its authority, not the given Host";
  EXPECT_EQ(answer.find("evil.example"), std::string::npos);
  EXPECT_EQ(answer.find("Proxy-"), std::string::npos) << "hop-by-hop";
}

TEST_F(egress_test, ends_what_goes_beyond_the_bytes_of_an_attempt) {
  upstream server{[](int fd) {
    const std::string block(65536, 'x');
    while (send_all(fd, block, 20s)) {
    }
  }};
  egress_options options;
  options.bytes_max = 1u << 20;
  start({"localhost:" + std::to_string(server.port())}, true, options);
  const auto fd = say(connect_to("localhost", server.port()) + hello_for("localhost"));
  const auto got = read_to_end(fd.get());
  EXPECT_GT(got.size(), 1u << 19);
  EXPECT_LT(got.size(), 2u << 20);
  EXPECT_NE(last_report().reason.find("network_bytes_max"), std::string::npos);
}

TEST_F(egress_test, lets_one_that_does_not_read_hold_up_nobody) {
  upstream server{[](int fd) {
    const std::string block(65536, 'x');
    for (int i = 0; i < 200 && send_all(fd, block, 20s); ++i) {
    }
    ::shutdown(fd, SHUT_WR);
    read_to_end(fd);  // A close with bytes unread would take back some that are under way.
  }};
  egress_options options;
  options.idle_deadline = 3s;
  start({"localhost:" + std::to_string(server.port())}, true, options);
  const auto ask = connect_to("localhost", server.port()) + hello_for("localhost");
  const auto slow = say(ask);
  EXPECT_EQ(read_some(slow.get(), established.size()), established);
  const auto quick = say(ask);
  EXPECT_EQ(read_to_end(quick.get()).size(), established.size() + 200 * 65536);
}

TEST_F(egress_test, lets_connections_above_its_bound_wait_until_one_ends) {
  auto& waits = gauges::value("egress_waits_full");
  const auto before = waits.load();
  upstream server{echo};
  egress_options options;
  options.connections_max = 3;
  start({"localhost:" + std::to_string(server.port())}, true, options);
  std::list<unique_fd> held;
  for (int i = 0; i < 3; ++i) {
    held.push_back(say(connect_to("localhost", server.port())));
    EXPECT_EQ(read_some(held.back().get(), established.size()), established);
  }
  test::eventually(10s, [&] { return waits > before; });
  const auto late = say(connect_to("localhost", server.port()));
  EXPECT_FALSE(wait_ready(late.get(), false, 100ms)) << "neither served nor closed";
  held.pop_front();
  EXPECT_EQ(read_some(late.get(), established.size()), established);
}

TEST_F(egress_test, ends_at_once_while_it_is_full) {
  auto& waits = gauges::value("egress_waits_full");
  const auto before = waits.load();
  upstream server{echo};
  egress_options options;
  options.connections_max = 1;
  start({"localhost:" + std::to_string(server.port())}, true, options);
  const auto held = say(connect_to("localhost", server.port()));
  EXPECT_EQ(read_some(held.get(), established.size()), established);
  const auto late = say(connect_to("localhost", server.port()));
  test::eventually(10s, [&] { return waits > before; });
  proxy_.reset();
  EXPECT_EQ(read_to_end(late.get()), "");
}

TEST_F(egress_test, bounds_a_head_in_size_and_time) {
  egress_options options;
  options.head_deadline = 300ms;
  start({"localhost:1"}, true, options);
  const auto long_head = client();
  // It may be closed before all of it is sent.
  [[maybe_unused]] const bool sent =
      send_all(long_head.get(), "GET http://localhost:1/" + std::string(30'000, 'a'), 5s);
  EXPECT_TRUE(read_to_end(long_head.get()).starts_with("HTTP/1.1 431 "));
  const auto slow_head = say("CONNECT localhost:1 HTTP/1.1\r\n");
  EXPECT_TRUE(read_to_end(slow_head.get()).starts_with("HTTP/1.1 408 "));
  const auto without = client();
  EXPECT_EQ(read_to_end(without.get()), "") << "there is nothing to answer";
}

TEST_F(egress_test, ends_all_that_is_open_when_the_step_ends) {
  upstream server{echo};
  start({"localhost:" + std::to_string(server.port())});
  const auto fd = say(connect_to("localhost", server.port()) + hello_for("localhost"));
  EXPECT_EQ(read_some(fd.get(), established.size()), established);
  const auto idle = client();
  proxy_.reset();
  read_to_end(fd.get());
  EXPECT_EQ(read_to_end(idle.get()), "");
  EXPECT_FALSE(connect_tcp({"127.0.0.1", port_}, 1s).has_value());
}
