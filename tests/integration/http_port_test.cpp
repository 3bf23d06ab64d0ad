// The webhook's HTTP port beside peers that mean no good.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <future>

#include "actors/dashboard/http_port.hpp"
#include "config/gauges.hpp"
#include "net/socket.hpp"
#include "tests/support/ok.hpp"

using namespace ntrace;
using namespace std::chrono_literals;
using dashboard::http_port;
using test::ok;

namespace {

void say_ok(const httplib::Request&, httplib::Response& out) {
  out.set_content("OK", "text/plain");
}

unique_fd dial(std::uint16_t port) { return ok(net::connect_tcp({"127.0.0.1", port}, 5s)); }

const std::string head = "POST /github HTTP/1.1\r\nHost: h\r\n";

/// All that is said until the peer closes; "?" behind it when it does not within 20 s.
std::string hear(const unique_fd& from) {
  std::string out;
  char block[4096];
  for (;;) {
    if (!net::wait_ready(from.get(), false, 20s)) return out + "?";
    const auto n = ::recv(from.get(), block, sizeof block, 0);
    if (n <= 0) return out;
    out.append(block, static_cast<std::size_t>(n));
  }
}

/// As many as the port serves at once, each in the midst of its head, sending a byte now and then.
class slow_peers {
public:
  explicit slow_peers(std::uint16_t port) {
    for (std::size_t i = 0; i < http_port::connections_max; ++i) {
      peers_.push_back(dial(port));
      EXPECT_TRUE(net::send_all(peers_.back().get(), head + "X: ", 5s));
    }
    sends_ = std::async(std::launch::async, [this] {
      const auto ends = ended_.get_future();
      while (ends.wait_for(20ms) == std::future_status::timeout)
        for (const auto& p : peers_) ::send(p.get(), "a", 1, MSG_NOSIGNAL);
    });
  }
  ~slow_peers() {
    ended_.set_value();
    sends_.wait();
  }
  slow_peers(const slow_peers&) = delete;
  slow_peers& operator=(const slow_peers&) = delete;

private:
  std::vector<unique_fd> peers_;
  std::promise<void> ended_;
  std::future<void> sends_;
};

}  // namespace

TEST(http_port, serves_others_though_all_its_threads_have_slow_peers) {
  auto& late = gauges::value("webhook_late");
  const auto late_before = late.load();
  http_port uut{{500ms, 1000}, say_ok};
  const auto port = uut.listen({"127.0.0.1", 0});
  const slow_peers slow{port};
  const auto fast = dial(port);
  ASSERT_TRUE(net::send_all(fast.get(), head + "Content-Length: 2\r\n\r\n{}", 5s));
  EXPECT_TRUE(hear(fast).starts_with("HTTP/1.1 200"));
  EXPECT_GT(late, late_before);
}

TEST(http_port, ends_though_it_has_hardly_begun) {
  for (int i = 0; i < 200; ++i) {
    http_port uut{{1h, 1000}, say_ok};
    EXPECT_NE(uut.listen({"127.0.0.1", 0}), 0);
  }
}

TEST(http_port, ends_at_once_though_peers_are_slow) {
  auto uut = std::make_unique<http_port>(dashboard::http_limits{1h, 1000}, say_ok);
  std::future<void> end;  // Before the peers, whose end it waits for when it fails.
  const slow_peers slow{uut->listen({"127.0.0.1", 0})};
  end = std::async(std::launch::async, [&] { uut.reset(); });
  EXPECT_EQ(end.wait_for(10s), std::future_status::ready);
}

TEST(http_port, reads_no_head_without_end) {
  http_port uut{{1h, 1000}, say_ok};
  const auto peer = dial(uut.listen({"127.0.0.1", 0}));
  const std::string line = "X: " + std::string(1000, 'x') + "\r\n";
  std::size_t sent = 0;
  net::send_all(peer.get(), head, 5s);
  while (sent < (64u << 20) && net::send_all(peer.get(), line, 5s)) sent += line.size();
  EXPECT_LT(sent, 64u << 20);
}

TEST(http_port, says_that_a_body_is_too_long_to_a_peer_that_still_sends_it) {
  http_port uut{{20s, 1000}, say_ok};
  const auto peer = dial(uut.listen({"127.0.0.1", 0}));
  ASSERT_TRUE(net::send_all(peer.get(), head + "Content-Length: 400000\r\n\r\n", 5s));
  ASSERT_TRUE(net::send_all(peer.get(), std::string(400'000, 'x'), 5s));
  EXPECT_TRUE(hear(peer).starts_with("HTTP/1.1 413"));
}

TEST(http_port, answers_a_request_that_comes_in_pieces) {
  http_port uut{{20s, 1000}, [](const httplib::Request& r, httplib::Response& out) {
                  out.set_content(r.body, "text/plain");
                }};
  const auto peer = dial(uut.listen({"127.0.0.1", 0}));
  for (const auto& piece :
       {head + "Expect: 100-continue\r\nContent-", std::string{"Length: 4\r\n\r"},
        std::string{"\na"}, std::string{"bc"}, std::string{"d"}})
    ASSERT_TRUE(net::send_all(peer.get(), piece, 5s));
  const auto heard = hear(peer);
  EXPECT_TRUE(heard.starts_with("HTTP/1.1 100 Continue")) << heard;
  EXPECT_TRUE(heard.ends_with("abcd")) << heard;
}
