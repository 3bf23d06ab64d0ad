// The tunnel between two machines whose link is cut, dropped, reset and throttled.
#include "tests/support/netns.hpp"
#include "tests/support/tunnel_world.hpp"

using namespace ntrace;
using namespace ntrace::test;

namespace {

/// The runner's side in namespace a, the dispatcher's with its sshd in b.
struct two_machines {
  scratch dir;
  network_pair net;
  std::unique_ptr<echo_server> echo;
  std::unique_ptr<real_sshd> sshd;
  std::unique_ptr<tunnel::tunnel_engine> engine;
  std::unique_ptr<numbered_traffic> traffic;
  host_port listen{"127.0.0.1", 9181};
  tunnel::tunnel_settings settings;

  two_machines() {
    network_pair::inside(net.b(), [&] {
      echo = std::make_unique<echo_server>(9181);
      sshd = std::make_unique<real_sshd>(dir, echo->at(), "", std::vector<net::reverse_forward>{},
                                         network_pair::address_b);
    });
    settings.to = ok(net::parse_ssh_target(sshd->url()));
    settings.listen = listen;
    settings.target = echo->at();
    settings.key_file = sshd->key_file();
    settings.known_hosts_file = sshd->known_hosts_file();
    network_pair::inside(net.a(), [&] {
      engine = std::make_unique<tunnel::tunnel_engine>(settings, 1);
      traffic = std::make_unique<numbered_traffic>(listen);
    });
    wait_for_echo();
  }
  ~two_machines() { traffic->stop(); }

  json status() { return status_of(*engine); }
  void wait_for_echo(milliseconds deadline = 20s) {
    const auto before = traffic->echoed();
    eventually(
        deadline, [&] { return traffic->echoed() > before + 5; },
        [&] { return status().dump() + "\n" + sshd->log(); });
  }
  void pass(milliseconds time) {
    const auto end = steady_clock::now() + time;
    eventually(time + 5s, [&] { return steady_clock::now() >= end; });
  }
  /// After the fault every message was echoed, once and in order within its connection.
  void expect_whole() {
    wait_for_echo();
    EXPECT_EQ(traffic->disorders(), 0u);
    EXPECT_EQ(status().value("leaked_channels", 1), 0);
    eventually(5s, [&] { return status().value("state", "") == "up"; });
  }
};

}  // namespace

TEST(tunnel_network, serves_again_after_black_holes_of_any_length) {
  NTRACE_NEEDS_NETWORKS();
  two_machines w;
  std::vector<milliseconds> lengths{200ms, 1000ms, 5000ms};
  if (std::getenv("NTRACE_SOAK")) lengths.insert(lengths.end(), {40s, 120s});
  for (const auto length : lengths) {
    w.net.drop("INPUT");
    w.net.drop("OUTPUT");
    w.pass(length);
    w.net.heal();
    w.expect_whole();
  }
}

TEST(tunnel_network, keeps_its_connections_over_a_short_black_hole) {
  NTRACE_NEEDS_NETWORKS();
  two_machines w;
  w.pass(1s);
  const auto connections = w.traffic->connections();
  for (const auto length : {1000ms, 1500ms, 1900ms}) {
    w.net.drop("INPUT");
    w.net.drop("OUTPUT");
    w.pass(length);
    w.net.heal();
    w.expect_whole();
    EXPECT_EQ(w.traffic->connections(), connections) << length.count() << w.status().dump();
  }
  EXPECT_EQ(w.status().value("generation", 0), 1) << "the old session answered";
}

TEST(tunnel_network, finds_out_when_only_one_direction_is_lost) {
  NTRACE_NEEDS_NETWORKS();
  two_machines w;
  for (const char* chain : {"INPUT", "OUTPUT"}) {
    w.net.drop(chain);
    eventually(
        5s, [&] { return w.status().value("state", "") == "suspect"; },
        [&] { return w.status().dump(); });
    w.net.heal();
    w.expect_whole();
  }
}

TEST(tunnel_network, heals_in_place_when_the_old_session_answers_first) {
  NTRACE_NEEDS_NETWORKS();
  two_machines w;
  const auto before = w.status().value("generation", 0);
  // The server takes no new connection, so only the old session can answer.
  w.net.drop("INPUT", {"-p", "tcp", "--syn", "-j", "DROP"});
  w.net.drop("INPUT", {"-p", "tcp", "!", "--syn", "-j", "DROP"});
  eventually(5s, [&] { return w.status().value("state", "") == "suspect"; });
  w.net.in_b({"iptables", "-w", "-D", "INPUT", "2"});
  eventually(
      20s, [&] { return w.status().value("state", "") == "up"; },
      [&] { return w.status().dump(); });
  EXPECT_EQ(w.status().value("generation", 0), before) << "no connection was lost";
  w.net.heal();
  w.expect_whole();
}

TEST(tunnel_network, comes_back_after_the_link_was_down) {
  NTRACE_NEEDS_NETWORKS();
  two_machines w;
  std::vector<milliseconds> lengths{3s};
  if (std::getenv("NTRACE_SOAK")) lengths.insert(lengths.end(), {30s, 120s});
  for (const auto length : lengths) {
    w.net.set_link(false);
    w.pass(length);
    w.net.set_link(true);
    w.expect_whole();
  }
}

TEST(tunnel_network, comes_back_from_a_server_that_was_reset_without_a_word) {
  NTRACE_NEEDS_NETWORKS();
  two_machines w;
  // Its machine goes down with all connections, and no packet tells.
  w.net.drop("OUTPUT");
  w.sshd->stop();
  w.pass(500ms);
  network_pair::inside(w.net.b(), [&] {
    w.net.heal();
    w.sshd->start();
  });
  w.expect_whole();
}

TEST(tunnel_network, comes_back_from_injected_resets) {
  NTRACE_NEEDS_NETWORKS();
  two_machines w;
  for (int i = 0; i < 3; ++i) {
    w.net.drop("INPUT", {"-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"});
    w.pass(300ms);
    w.net.heal();
    w.expect_whole();
  }
}

TEST(tunnel_network, carries_on_over_a_lossy_link) {
  NTRACE_NEEDS_NETWORKS();
  two_machines w;
  w.net.drop("INPUT",
             {"-m", "statistic", "--mode", "random", "--probability", "0.05", "-j", "DROP"});
  const auto before = w.traffic->echoed();
  eventually(
      60s, [&] { return w.traffic->echoed() > before + 200; }, [&] { return w.status().dump(); });
  w.net.heal();
  w.expect_whole();
}

TEST(tunnel_network, takes_a_slow_line_full_of_data_for_alive) {
  NTRACE_NEEDS_NETWORKS();
  two_machines w;
  w.traffic->stop();
  w.net.throttle("1mbit");
  const auto before = w.status();
  // Half a MiB up at 125 KB/s and nothing back: what stands before a probe is seconds long.
  std::optional<std::string> back;
  network_pair::inside(w.net.a(), [&] {
    const auto fd = ok(net::connect_tcp(w.listen, 5s));
    EXPECT_TRUE(
        net::send_all(fd.get(), std::string{sink_word} + std::string(512u << 10, 'x'), 60s));
    ::shutdown(fd.get(), SHUT_WR);
    back = read_to_end(fd.get(), 60s);
  });
  EXPECT_EQ(back.value_or("a reset"), "done");
  EXPECT_EQ(w.status().value("ups", 0), before.value("ups", -1)) << "never suspected";
}

TEST(tunnel_network, carries_all_over_a_line_of_small_packets) {
  NTRACE_NEEDS_NETWORKS();
  seeded s;
  two_machines w;
  w.net.set_mtu(576);
  const auto bytes = random_bytes(s.random, 1u << 20);
  std::optional<std::string> back;
  network_pair::inside(w.net.a(), [&] {
    const auto fd = ok(net::connect_tcp(w.listen, 5s));
    auto reader = std::async(std::launch::async, [&] { return read_to_end(fd.get(), 60s); });
    EXPECT_TRUE(net::send_all(fd.get(), bytes, 60s));
    ::shutdown(fd.get(), SHUT_WR);
    back = reader.get();
  });
  EXPECT_EQ(hash(back.value_or("a reset")), hash(bytes));
  w.expect_whole();
}

TEST(tunnel_network, lives_through_a_path_that_swallows_large_packets) {
  NTRACE_NEEDS_NETWORKS();
  seeded s;
  two_machines w;
  // Its small packets pass, so that a session looks alive until somebody sends much.
  for (const char* chain : {"INPUT", "OUTPUT"})
    w.net.drop(chain, {"-m", "length", "--length", "600:65535", "-j", "DROP"});
  const auto bytes = random_bytes(s.random, 1u << 20);
  network_pair::inside(w.net.a(), [&] {
    const auto fd = ok(net::connect_tcp(w.listen, 5s));
    net::send_all(fd.get(), bytes, 3s);
    eventually(
        20s, [&] { return w.status().value("state", "") != "up"; },
        [&] { return w.status().dump(); });
    EXPECT_LT(w.status().value("buffered_bytes", 1u << 30), 2u << 20);
  });
  w.net.heal();
  w.expect_whole();
}

TEST(tunnel_network, dials_at_once_when_the_network_comes_back_though_it_would_wait_long) {
  NTRACE_NEEDS_NETWORKS();
  two_machines w;
  w.traffic->stop();  // Nobody asks for it.
  w.engine.reset();
  w.settings.machine.backoff_max = 60s;
  w.settings.machine.backoff_min = 60s;
  // No route: each dial fails at once.
  w.net.in_a({"ip", "link", "set", "left", "down"});
  network_pair::inside(w.net.a(),
                       [&] { w.engine = std::make_unique<tunnel::tunnel_engine>(w.settings, 1); });
  eventually(
      20s,
      [&] {
        return w.status().value("dials", 0) >= 2 && w.status().value("state", "") == "backoff";
      },
      [&] { return w.status().dump(); });
  w.net.in_a({"ip", "link", "set", "left", "up"});
  eventually(
      10s, [&] { return w.status().value("state", "") == "up"; },
      [&] { return w.status().dump(); });
}
