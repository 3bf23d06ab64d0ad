// The tunnel over a real sshd: what it carries, and what its users see when something dies.
#include "tests/support/tunnel_world.hpp"

using namespace ntrace;
using namespace ntrace::test;

namespace {

/// Sends all and reads all, at the same time.
std::optional<std::string> exchange(int fd, const std::string& bytes) {
  auto back = std::async(std::launch::async, [fd] { return read_to_end(fd, 60s); });
  net::send_all(fd, bytes, 60s);
  ::shutdown(fd, SHUT_WR);
  return back.get();
}

}  // namespace

TEST(tunnel, carries_all_bytes_and_the_end_of_file_in_both_directions) {
  seeded s;
  tunnel_world w;
  w.start().wait_for("up");
  const auto sent = random_bytes(s.random, 10u << 20);
  const auto fd = w.connect();
  const auto back = exchange(fd.get(), sent);
  ASSERT_TRUE(back);
  EXPECT_EQ(hash(*back), hash(sent));
  eventually(5s, [&] { return w.status().value("connections", 1) == 0; });
  EXPECT_EQ(w.status().value("leaked_channels", 1), 0);
}

TEST(tunnel, carries_many_connections_over_one_session) {
  seeded s;
  tunnel_world w;
  w.start().wait_for("up");
  std::vector<std::future<bool>> all;
  for (int i = 0; i < 64; ++i)
    all.push_back(std::async(std::launch::async, [&w, bytes = random_bytes(s.random, 256u << 10)] {
      const auto fd = w.connect();
      const auto back = exchange(fd.get(), bytes);
      return back && hash(*back) == hash(bytes);
    }));
  for (auto& one : all) EXPECT_TRUE(one.get());
  EXPECT_EQ(w.status().value("ups", 0), 1);
}

TEST(tunnel, holds_connections_until_there_is_a_session_and_serves_them_in_order) {
  tunnel_world w;
  w.sshd.stop();
  w.start().wait_for("backoff");
  const auto first = w.connect(), second = w.connect();
  ASSERT_TRUE(net::send_all(first.get(), "one\n", 1s));
  ASSERT_TRUE(net::send_all(second.get(), "two\n", 1s));
  eventually(5s, [&] { return w.status().value("held", 0) == 2; });
  w.sshd.start();
  EXPECT_TRUE(is_echoed(second.get(), ""));
  ::shutdown(first.get(), SHUT_WR);
  ::shutdown(second.get(), SHUT_WR);
  EXPECT_EQ(read_to_end(first.get()), "one\n");
  EXPECT_EQ(read_to_end(second.get()), "two\n");
}

TEST(tunnel, comes_back_after_each_of_50_killed_sessions_and_loses_no_message_that_is_said_again) {
  seeded s;
  tunnel_world w;
  w.start().wait_for("up");
  const auto descriptors = count_of("/proc/self/fd");
  {
    numbered_traffic traffic{w.at()};
    for (int i = 0; i < 50; ++i) {
      const auto before = traffic.echoed();
      eventually(
          15s, [&] { return traffic.echoed() > before + s.random.below(10); },
          [&] { return w.status().dump(); });
      w.sshd.signal_sessions(SIGKILL);
    }
    const auto before = traffic.echoed();
    eventually(15s, [&] { return traffic.echoed() > before; });
    EXPECT_EQ(traffic.disorders(), 0u);
  }
  w.wait_for("up");
  eventually(
      5s, [&] { return count_of("/proc/self/fd") <= descriptors; },
      [&] { return std::to_string(count_of("/proc/self/fd") - descriptors) + " more"; });
  EXPECT_EQ(w.status().value("connections", 1), 0);
}

TEST(tunnel, resets_a_connection_whose_session_died) {
  tunnel_world w;
  w.start().wait_for("up");
  const auto fd = w.connect();
  ASSERT_TRUE(is_echoed(fd.get(), "hello\n"));
  w.sshd.signal_sessions(SIGKILL);
  char byte = 0;
  eventually(5s, [&] { return ::recv(fd.get(), &byte, 1, 0) != -1 || errno != EAGAIN; });
  EXPECT_EQ(::recv(fd.get(), &byte, 1, 0), 0) << "the reset was told by the call before";
}

TEST(tunnel, suspects_a_stopped_session_and_switches_to_a_new_one) {
  tunnel_world w;
  w.start().wait_for("up");
  numbered_traffic traffic{w.at()};
  eventually(5s, [&] { return traffic.echoed() > 10; });
  const auto stopped = w.sshd.sessions();
  for (const int pid : stopped) ::kill(pid, SIGSTOP);
  eventually(10s, [&] { return w.status().value("generation", 0) == 2; });
  const auto before = traffic.echoed();
  eventually(10s, [&] { return traffic.echoed() > before + 10; });
  for (const int pid : stopped) ::kill(pid, SIGCONT);
  traffic.stop();
  EXPECT_EQ(traffic.disorders(), 0u);
  EXPECT_EQ(w.status().value("state", ""), "up");
}

TEST(tunnel, asks_a_frozen_server_at_most_three_times_at_once_and_comes_up_when_it_goes_on) {
  tunnel_world w;
  w.start().wait_for("up");
  const auto sessions = w.sshd.sessions();
  ::kill(w.sshd.pid(), SIGSTOP);
  for (const int pid : sessions) ::kill(pid, SIGKILL);
  int most = 0;
  const auto until = steady_clock::now() + 5s;
  eventually(10s, [&] {
    most = std::max(most, w.status().value("dials_under_way", 0));
    return steady_clock::now() > until;
  });
  EXPECT_GE(most, 2);
  EXPECT_LE(most, 3);
  ::kill(w.sshd.pid(), SIGCONT);
  w.wait_for("up");
  const auto fd = w.connect();
  EXPECT_TRUE(is_echoed(fd.get(), "after\n"));
}

TEST(tunnel, makes_no_storm_at_a_server_that_takes_few_and_throws_most_out) {
  tunnel_world w{"MaxStartups 1:100:1\nLoginGraceTime 3"};
  // Somebody else takes the only place before login, and says nothing until sshd ends it.
  unique_fd other;
  eventually(10s, [&] {
    other = ok(net::connect_tcp({"127.0.0.1", static_cast<std::uint16_t>(w.sshd.port)}, 5s));
    char byte = 0;
    return net::wait_ready(other.get(), false, 5s) && ::recv(other.get(), &byte, 1, 0) == 1 &&
           byte == 'S';
  });
  w.start().wait_for("up", 20s);
  EXPECT_GT(w.status().value("dials", 0), 3);
  EXPECT_LT(w.status().value("dials", 0), 40) << "full jitter up to half a second between dials";
  const auto fd = w.connect();
  EXPECT_TRUE(is_echoed(fd.get(), "in\n"));
}

TEST(tunnel, resets_connections_while_nobody_serves_the_target_and_serves_them_after) {
  const auto port = free_port();
  scratch dir;
  real_sshd sshd{dir, {"127.0.0.1", static_cast<std::uint16_t>(port)}};
  tunnel::tunnel_settings settings;
  settings.to = ok(net::parse_ssh_target(sshd.url()));
  settings.listen = {"127.0.0.1", static_cast<std::uint16_t>(free_port())};
  settings.target = {"127.0.0.1", static_cast<std::uint16_t>(port)};
  settings.key_file = sshd.key_file();
  settings.known_hosts_file = sshd.known_hosts_file();
  tunnel::tunnel_engine engine{settings, 1};
  EXPECT_TRUE(is_reset(settings.listen)) << "a reset, not an end of file";
  echo_server late{port};
  const auto again = ok(net::connect_tcp(settings.listen, 10s));
  EXPECT_TRUE(is_echoed(again.get(), "hello\n"));
  EXPECT_EQ(status_of(engine).value("ups", 0), 1);
}

TEST(tunnel, waits_for_its_listening_port_and_takes_it_when_it_is_free) {
  tunnel_world w;
  auto taken = std::make_optional(ok(net::listen_tcp(w.at(), 1)));
  w.start().wait_for("up");
  EXPECT_FALSE(w.status().value("listening", true));
  const auto problem = w.status().value("listen_problem", "");
  EXPECT_NE(problem.find(w.at().text()), std::string::npos);
  EXPECT_NE(problem.find("process " + std::to_string(::getpid()) + " ("), std::string::npos)
      << problem;
  taken.reset();
  eventually(5s, [&] { return w.status().value("listening", false); });
  const auto fd = w.connect();
  EXPECT_TRUE(is_echoed(fd.get(), "hello\n"));
}

TEST(tunnel, leaks_nothing_over_5000_short_connections) {
  tunnel_world w;
  w.start().wait_for("up");
  const auto descriptors = count_of("/proc/self/fd");
  std::atomic<int> todo{5000}, good{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 64; ++i)
    clients.emplace_back([&] {
      while (todo-- > 0) {
        const auto fd = net::connect_tcp(w.at(), 10s);
        // One in eight leaves while its open is pending.
        if (fd && todo % 8 == 0)
          ++good;
        else if (fd && is_echoed(fd->get(), "short\n"))
          ++good;
      }
    });
  for (auto& c : clients) c.join();
  EXPECT_EQ(good, 5000);
  eventually(
      10s, [&] { return w.status().value("connections", 1) == 0; },
      [&] { return w.status().dump(); });
  eventually(5s, [&] { return count_of("/proc/self/fd") <= descriptors; });
  EXPECT_EQ(w.status().value("leaked_channels", 1), 0);
  EXPECT_EQ(w.status().value("ups", 0), 1);
}

TEST(tunnel, survives_the_servers_rekeying_under_load_in_both_directions) {
  seeded s;
  tunnel_world w{"RekeyLimit 1M"};
  w.start().wait_for("up");
  const std::uint64_t bytes = std::getenv("NTRACE_SOAK") ? 1u << 30 : 64u << 20;
  auto opening = std::async(std::launch::async, [&w] {
    int good = 0;
    for (int i = 0; i < 100; ++i) {
      const auto fd = w.connect();
      good += is_echoed(fd.get(), "between\n") ? 1 : 0;
    }
    return good;
  });
  const auto fd = w.connect();
  const auto seen = stream_through(fd.get(), s.random.next(), bytes);
  EXPECT_FALSE(seen.is_wrong);
  EXPECT_TRUE(seen.has_ended) << seen.right << " of " << bytes;
  EXPECT_EQ(opening.get(), 100);
  EXPECT_EQ(w.status().value("ups", 0), 1) << "one session carried it all";
}

TEST(tunnel, delivers_no_wrong_byte_when_sessions_die_and_freeze_in_the_middle_of_rekeying) {
  seeded s;
  // A new key for each 64 KiB: most moments are in the middle of an exchange.
  tunnel_world w{"RekeyLimit 64K"};
  w.start().wait_for("up");
  for (int round = 0; round < 10; ++round) {
    const auto fd = w.connect();
    const auto fault_at = s.random.below(4u << 20);
    bool is_done = false;
    const auto seen = stream_through(fd.get(), s.random.next(), 8u << 20, [&](std::uint64_t right) {
      if (is_done || right < fault_at) return;
      is_done = true;
      w.sshd.signal_sessions(round % 2 == 0 ? SIGKILL : SIGSTOP);
    });
    EXPECT_FALSE(seen.is_wrong);
    EXPECT_FALSE(seen.has_ended);
    w.sshd.signal_sessions(SIGCONT);
    w.wait_for("up");
  }
  const auto fd = w.connect();
  EXPECT_TRUE(stream_through(fd.get(), s.random.next(), 8u << 20).has_ended);
}

TEST(tunnel, brings_connections_from_the_server_to_its_own_side) {
  echo_server here;
  const net::reverse_forward reverse{{"127.0.0.1", static_cast<std::uint16_t>(free_port())},
                                     here.at()};
  tunnel_world w{"", {reverse}};
  w.start().wait_for("up");
  const auto is_up = [&] {
    return w.status()["reverse"][0].value("state", "") == std::string{"up"};
  };
  eventually(5s, is_up, [&] { return w.status().dump(); });
  for (int round = 0; round < 2; ++round) {
    const auto fd = ok(net::connect_tcp(reverse.listen, 5s));
    EXPECT_TRUE(is_echoed(fd.get(), "from the other side\n"));
    if (round == 1) break;
    w.sshd.signal_sessions(SIGKILL);
    eventually(5s, [&] { return w.status().value("ups", 0) == 2; });
    eventually(35s, is_up, [&] { return w.status().dump(); });
  }
}

TEST(tunnel, has_its_standby_serve_at_once_when_the_session_dies) {
  tunnel_world w;
  w.settings.machine.standby = true;
  w.start().wait_for("up");
  eventually(10s, [&] { return w.status().value("standby", 0) != 0; });
  const auto live = w.status().value("generation", 0);
  const auto dials = w.status().value("dials", 0);
  const auto fd = w.connect();
  ASSERT_TRUE(is_echoed(fd.get(), "over the first\n"));
  // The session that carries the connection is the one with the older processes.
  ::kill(*w.sshd.sessions().begin(), SIGKILL);
  eventually(
      5s, [&] { return w.status().value("generation", 0) != live; },
      [&] { return w.status().dump(); });
  EXPECT_EQ(w.status().value("dials", 0), dials) << "nothing had to be dialled";
  const auto again = w.connect();
  EXPECT_TRUE(is_echoed(again.get(), "over the second\n"));
}

TEST(tunnel, ends_in_time_while_it_dials_suspects_and_carries) {
  const auto end_of = [](tunnel_world& w) {
    const auto began = steady_clock::now();
    w.engine.reset();
    EXPECT_LT(steady_clock::now() - began, 10s) << "within a service's stop";
    EXPECT_TRUE(net::listen_tcp(w.at(), 1).has_value()) << "the port is free for the next start";
  };
  tunnel_world dialling;
  ::kill(dialling.sshd.pid(), SIGSTOP);
  dialling.start();
  eventually(5s, [&] { return dialling.status().value("dials_under_way", 0) > 0; });
  end_of(dialling);
  tunnel_world carrying;
  carrying.start().wait_for("up");
  const auto fd = carrying.connect();
  ASSERT_TRUE(is_echoed(fd.get(), "hello\n"));
  end_of(carrying);
  tunnel_world suspecting;
  suspecting.start().wait_for("up");
  ::kill(suspecting.sshd.pid(), SIGSTOP);
  suspecting.sshd.signal_sessions(SIGSTOP);
  suspecting.wait_for("suspect");
  end_of(suspecting);
}
