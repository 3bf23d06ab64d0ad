// The proxy of the install step: what it lets through, what it refuses, and that nobody holds up
// another. docs/zones.md, "Network".
#include <future>

#include "config/outage.hpp"
#include "tests/support/egress_world.hpp"

using namespace ntrace;
using namespace ntrace::net;
using namespace std::chrono_literals;
using namespace ntrace::test;

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

TEST_F(egress_test, ends_what_goes_beyond_the_bytes_of_an_attempt) {
  upstream server{[](int fd) {
    const std::string block(65536, 'x');
    while (send_all(fd, block, 20s)) {
    }
  }};
  egress_options options;
  options.bytes_max = 1u << 20;
  start({"localhost:" + std::to_string(server.port())}, true, options);
  const auto fd = tunnel_to(server.port());
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
  const auto slow = tunnel_to(server.port());
  const auto quick = tunnel_to(server.port());
  EXPECT_EQ(read_to_end(quick.get()).size(), 200u * 65536);
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
  const auto fd = tunnel_to(server.port());
  const auto idle = client();
  proxy_.reset();
  read_to_end(fd.get());
  EXPECT_EQ(read_to_end(idle.get()), "");
  EXPECT_FALSE(connect_tcp({"127.0.0.1", port_}, 1s).has_value());
}

namespace {

/// A server that reads one block, sends `answer`, and ends with a reset, or in order.
std::function<void(int)> ends_after(std::string answer, bool is_reset) {
  return [=](int fd) {
    char block[65536];
    EXPECT_TRUE(wait_ready(fd, false, 10s));
    EXPECT_GT(::recv(fd, block, sizeof block, MSG_DONTWAIT), 0);
    send_all(fd, answer, 10s);
    const linger at_once{1, 0};
    if (is_reset) ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  };
}

}  // namespace

TEST_F(egress_test, tells_that_a_registry_broke_within_a_transfer_and_no_orderly_end) {
  struct row {
    bool is_tunnel;
    std::string answer;
    bool is_reset, is_lost;
  };
  const std::string cut = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok";
  const std::string whole = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
  for (const auto& r : {row{true, "part", true, true}, row{true, "all", false, false},
                        row{false, cut, false, true}, row{false, whole, false, false}}) {
    upstream server{ends_after(r.answer, r.is_reset)};
    std::mutex guard;
    std::vector<std::optional<outage>> noted;
    egress_options options;
    options.on_reach = [&](const host_port& at, const error* failed) {
      const std::lock_guard lock{guard};
      EXPECT_EQ(at.port, server.port());
      noted.push_back(failed ? outage_of(*failed) : std::nullopt);
    };
    const auto at = "localhost:" + std::to_string(server.port());
    reports_.clear();
    start({at}, true, options);
    const auto fd = r.is_tunnel
                        ? tunnel_to(server.port())
                        : say("GET http://" + at + "/ HTTP/1.1\r\nHost: " + at + "\r\n\r\n");
    read_to_end(fd.get());
    ::shutdown(fd.get(), SHUT_WR);
    last_report();
    proxy_.reset();
    ASSERT_EQ(noted.size(), r.is_lost ? 2u : 1u) << r.answer;
    EXPECT_EQ(noted[0], std::nullopt) << "it was dialled";
    if (r.is_lost) {
      EXPECT_EQ(noted[1]->cause, outage_cause::connection_lost);
    }
  }
}

TEST_F(egress_test, blames_no_registry_when_the_client_left_before_the_reset) {
  std::promise<void> has_left;
  upstream server{[&](int fd) {
    read_to_end(fd);
    has_left.set_value();
    const linger at_once{1, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  }};
  std::atomic<int> failures = 0;
  egress_options options;
  options.on_reach = [&](const host_port&, const error* failed) { failures += failed ? 1 : 0; };
  start({"localhost:" + std::to_string(server.port())}, true, options);
  {
    const auto fd = tunnel_to(server.port());
    ::shutdown(fd.get(), SHUT_WR);
    has_left.get_future().wait();
  }
  last_report();
  proxy_.reset();
  EXPECT_EQ(failures, 0);
}
