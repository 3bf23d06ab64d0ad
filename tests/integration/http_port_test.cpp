// The webhook's HTTP port beside peers that mean no good.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <future>

#include "actors/dashboard/http_port.hpp"
#include "config/gauges.hpp"
#include "net/socket.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/ok.hpp"

using namespace ntrace;
using namespace std::chrono_literals;
using namespace ntrace::dashboard;
using test::ok;

namespace {

http_response say_ok(const http_request&) { return {200, "OK"}; }

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

/// Peers in the midst of their heads and bodies, each of which sends a byte now and then.
class slow_peers {
public:
  slow_peers(std::uint16_t port, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      peers_.push_back(dial(port));
      const auto begin = i % 2 == 0 ? head + "X: " : head + "Content-Length: 900\r\n\r\n{";
      EXPECT_TRUE(net::send_all(peers_.back().get(), begin, 5s));
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

  /// How many the port has neither answered nor closed.
  std::size_t held() const {
    return static_cast<std::size_t>(std::count_if(peers_.begin(), peers_.end(), [](const auto& p) {
      char c;
      return ::recv(p.get(), &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
    }));
  }

private:
  std::vector<unique_fd> peers_;
  std::promise<void> ended_;
  std::future<void> sends_;
};

/// A whole request on a connection of its own; the answer.
std::string deliver(std::uint16_t port, const std::string& body = "{}") {
  const auto peer = dial(port);
  EXPECT_TRUE(net::send_all(
      peer.get(), head + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body, 5s));
  return hear(peer);
}

}  // namespace

TEST(http_port, serves_others_while_hundreds_of_slow_peers_hold_their_connections) {
  auto& open = gauges::value("webhook_connections");
  http_port uut{{1h, 1000}, say_ok};
  const auto port = uut.listen({"127.0.0.1", 0});
  const slow_peers slow{port, 300};
  ASSERT_TRUE(test::eventually(20s, [&] { return open == 300; }));
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(deliver(port).starts_with("HTTP/1.1 200 OK\r\n"));
  EXPECT_EQ(slow.held(), 300u);
}

TEST(http_port, cuts_off_a_peer_that_is_late) {
  auto& late = gauges::value("webhook_late");
  const auto before = late.load();
  http_port uut{{300ms, 1000}, say_ok};
  const auto port = uut.listen({"127.0.0.1", 0});
  const auto silent = dial(port), slow = dial(port);
  ASSERT_TRUE(net::send_all(slow.get(), head + "Content-Length: 9\r\n\r\nab", 5s));
  EXPECT_EQ(hear(silent), "");
  EXPECT_TRUE(hear(slow).starts_with("HTTP/1.1 400 "));
  EXPECT_EQ(late, before + 2);
}

TEST(http_port, closes_the_oldest_that_is_not_whole_when_there_are_too_many) {
  auto& dropped = gauges::value("webhook_dropped");
  const auto before = dropped.load();
  http_limits limits{1h, 1000};
  limits.connections_max = 3;
  http_port uut{limits, say_ok};
  const auto port = uut.listen({"127.0.0.1", 0});
  std::vector<unique_fd> held;
  for (int i = 0; i < 3; ++i) {
    held.push_back(dial(port));
    ASSERT_TRUE(net::send_all(held.back().get(), head, 5s));
    ASSERT_TRUE(
        test::eventually(10s, [&] { return gauges::value("webhook_connections") == i + 1; }));
  }
  EXPECT_TRUE(deliver(port).starts_with("HTTP/1.1 200"));
  EXPECT_EQ(hear(held[0]), "") << "closed";
  EXPECT_EQ(dropped, before + 1);
  ASSERT_TRUE(net::send_all(held[1].get(), "\r\n", 5s));
  EXPECT_TRUE(hear(held[1]).starts_with("HTTP/1.1 200")) << "the others go on";
}

TEST(http_port, holds_no_more_bytes_than_its_bound_of_all_requests_together) {
  auto& bytes = gauges::value("webhook_bytes");
  auto& dropped = gauges::value("webhook_dropped");
  const auto before = dropped.load();
  http_limits limits{1h, 1u << 20};
  limits.bytes_max = 4u << 20;
  http_port uut{limits, say_ok};
  const auto port = uut.listen({"127.0.0.1", 0});
  std::vector<unique_fd> held;
  for (int i = 0; i < 20; ++i) {
    held.push_back(dial(port));
    // Announced and not sent: a length alone takes no memory.
    ASSERT_TRUE(net::send_all(held.back().get(), head + "Content-Length: 1000000\r\n\r\n", 5s));
  }
  ASSERT_TRUE(test::eventually(10s, [&] { return gauges::value("webhook_connections") == 20; }));
  EXPECT_LT(bytes, 1 << 20);
  EXPECT_EQ(dropped, before);
  for (const auto& peer : held) {
    // One that was closed meanwhile takes no more.
    [[maybe_unused]] const bool sent = net::send_all(peer.get(), std::string(999'999, 'x'), 5s);
    EXPECT_LE(bytes, static_cast<std::int64_t>(limits.bytes_max + (1u << 20)));
  }
  EXPECT_TRUE(test::eventually(10s, [&] { return dropped > before; }));
  EXPECT_TRUE(
      test::eventually(10s, [&] { return bytes <= static_cast<std::int64_t>(limits.bytes_max); }));
  EXPECT_TRUE(deliver(port).starts_with("HTTP/1.1 200"));
}

TEST(http_port, answers_what_it_works_on_when_it_ends) {
  std::promise<void> begun, may_end;
  auto uut = std::make_unique<http_port>(http_limits{1h, 1000}, [&](const http_request&) {
    begun.set_value();
    may_end.get_future().wait();
    return http_response{200, "done"};
  });
  const auto peer = dial(uut->listen({"127.0.0.1", 0}));
  ASSERT_TRUE(net::send_all(peer.get(), head + "\r\n", 5s));
  begun.get_future().wait();
  const auto end = std::async(std::launch::async, [&] { uut.reset(); });
  may_end.set_value();
  EXPECT_TRUE(hear(peer).ends_with("done"));
}

TEST(http_port, refuses_by_name_what_is_no_request_of_its_kind) {
  http_port uut{{20s, 1000}, say_ok};
  const auto port = uut.listen({"127.0.0.1", 0});
  const auto answer_to = [&](const std::string& text) {
    const auto peer = dial(port);
    EXPECT_TRUE(net::send_all(peer.get(), text, 5s));
    return hear(peer).substr(9, 3);
  };
  EXPECT_EQ(answer_to("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), "405");
  EXPECT_EQ(answer_to("nonsense\r\n\r\n"), "400");
  EXPECT_EQ(answer_to(head + "Content-Length: x\r\n\r\n"), "400");
  EXPECT_EQ(answer_to(head + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}"), "400");
  EXPECT_EQ(answer_to(head + "Transfer-Encoding: chunked\r\n\r\n7d0\r\n"), "413");
  EXPECT_EQ(answer_to("[\"drain\",[],1]\n\r\n\r\n"), "400");
}

TEST(http_port, puts_no_line_of_a_peers_into_an_answers_head) {
  http_port uut{{20s, 1000}, [](const http_request& r) {
                  return http_response{400, "", {{"X-Error", "said " + r.body}}};
                }};
  const auto heard = deliver(uut.listen({"127.0.0.1", 0}), "a\r\nSet-Cookie: x\r\n\r\n");
  EXPECT_EQ(heard.find("\r\nSet-Cookie"), std::string::npos) << heard;
}

TEST(http_port, ends_though_it_has_hardly_begun) {
  for (int i = 0; i < 200; ++i) {
    http_port uut{{1h, 1000}, say_ok};
    EXPECT_NE(uut.listen({"127.0.0.1", 0}), 0);
  }
}

TEST(http_port, ends_at_once_though_peers_are_slow) {
  auto uut = std::make_unique<http_port>(http_limits{1h, 1000}, say_ok);
  std::future<void> end;  // Before the peers, whose end it waits for when it fails.
  const slow_peers slow{uut->listen({"127.0.0.1", 0}), 50};
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
  http_port uut{{20s, 1000}, [](const http_request& r) { return http_response{200, r.body}; }};
  const auto peer = dial(uut.listen({"127.0.0.1", 0}));
  for (const auto& piece :
       {head + "Expect: 100-continue\r\nContent-", std::string{"Length: 4\r\n\r"},
        std::string{"\na"}, std::string{"bc"}, std::string{"d"}})
    ASSERT_TRUE(net::send_all(peer.get(), piece, 5s));
  const auto heard = hear(peer);
  EXPECT_TRUE(heard.starts_with("HTTP/1.1 100 Continue")) << heard;
  EXPECT_TRUE(heard.ends_with("abcd")) << heard;
}
