// The tunnel when somebody takes his time: readers that are slow or stop, a server that stays away,
// a process that was suspended.
#include "tests/support/tunnel_world.hpp"

using namespace ntrace;
using namespace ntrace::test;

namespace {

std::size_t memory_kib() {
  std::istringstream in{read_file("/proc/self/status").value_or("")};
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("VmRSS:")) return std::stoul(line.substr(6));
  return 0;
}

/// The short time always, the long one with the soak.
milliseconds usual_or_soak(milliseconds usual, milliseconds soak) {
  return std::getenv("NTRACE_SOAK") ? soak : usual;
}

void pass(milliseconds time) {
  const auto end = steady_clock::now() + time;
  eventually(time + 5s, [&] { return steady_clock::now() >= end; });
}

void expect_others_whole(tunnel_world& w, random_source& random) {
  for (int i = 0; i < 3; ++i) {
    const auto other = w.connect();
    const auto got = stream_through(other.get(), random.next(), 8u << 20);
    EXPECT_FALSE(got.is_wrong);
    EXPECT_TRUE(got.has_ended);
    EXPECT_EQ(got.right, 8u << 20);
  }
}

}  // namespace

TEST(tunnel_patience,
     lets_a_reader_that_stops_disturb_nobody_else_and_bounds_what_it_holds_for_it) {
  seeded s;
  tunnel_world w;
  w.start().wait_for("up");
  const auto stalled = w.connect();
  [[maybe_unused]] const auto before = memory_kib();
  // It sends for as long as somebody takes it, and never reads the echo.
  const std::string piece(64u << 10, 'x');
  std::size_t sent = 0;
  while (sent < (256u << 20) && net::send_all(stalled.get(), piece, 500ms)) sent += piece.size();
  EXPECT_LT(sent, 256u << 20) << "backpressure reaches the sender";
#ifndef NTRACE_SANITIZES_ADDRESSES  // It keeps what is freed.
  EXPECT_LT(memory_kib() - before, 64u << 10);
#endif
  EXPECT_LT(w.status().value("buffered_bytes", 1u << 30), 1 << 20);
  expect_others_whole(w, s.random);
}

TEST(tunnel_patience, lets_a_reader_of_a_byte_a_second_disturb_nobody_else) {
  seeded s;
  tunnel_world w;
  w.start().wait_for("up");
  const auto slow = w.connect();
  const std::string piece(64u << 10, 'x');
  std::size_t sent = 0;
  while (sent < (64u << 20) && net::send_all(slow.get(), piece, 500ms)) sent += piece.size();
  std::size_t taken = 0;
  const auto end = steady_clock::now() + usual_or_soak(4s, 60s);
  for (auto next = steady_clock::now(); steady_clock::now() < end; next += 1s) {
    char byte = 0;
    ASSERT_TRUE(net::wait_ready(slow.get(), false, 5s));
    ASSERT_EQ(::recv(slow.get(), &byte, 1, 0), 1);
    EXPECT_EQ(byte, 'x');
    ++taken;
    expect_others_whole(w, s.random);
    eventually(5s, [&] { return steady_clock::now() >= next + 1s; });
  }
  EXPECT_GE(taken, 2u);
  EXPECT_LT(w.status().value("buffered_bytes", 1u << 30), 1 << 20);
  EXPECT_EQ(w.status().value("generation", 0), 1) << "the session was never given up";
}

TEST(tunnel_patience, is_back_soon_after_a_server_that_stayed_away) {
  tunnel_world w;
  w.start().wait_for("up");
  numbered_traffic traffic{w.at()};
  eventually(5s, [&] { return traffic.echoed() > 10; });
  w.sshd.stop();
  pass(usual_or_soak(5s, 60s));
  EXPECT_NE(w.status().value("state", ""), "up");
  const auto before = traffic.echoed();
  w.sshd.start();
  eventually(
      40s, [&] { return traffic.echoed() > before + 10; }, [&] { return w.status().dump(); });
  traffic.stop();
  EXPECT_EQ(traffic.disorders(), 0u);
}

TEST(tunnel_patience, goes_on_with_its_connections_after_its_process_was_suspended) {
  tunnel_world w;  // Its sshd and echo; the tunnel is a process of its own.
  subprocess_spec spec;
  spec.argv = {program_path(),
               "tunnel",
               "run",
               w.sshd.url(),
               "--data",
               w.dir / "data",
               "--dispatcher",
               w.echo.at().text(),
               "--tunnel-listen",
               w.at().text(),
               "--tunnel-key-file",
               w.sshd.key_file(),
               "--tunnel-known-hosts-file",
               w.sshd.known_hosts_file()};
  const unique_fd log{
      ::open((w.dir / "log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)};
  const int pid = ok(spawn_guarded(spec, -1, log.get(), log.get()));
  const auto words = [&] { return read_file(w.dir / "log").value_or(""); };
  unique_fd fd;
  eventually(
      15s,
      [&] {
        auto opened = net::connect_tcp(w.at(), 200ms);
        if (opened) fd = std::move(*opened);
        return opened.has_value();
      },
      words);
  EXPECT_TRUE(is_echoed(fd.get(), "before\n")) << words();
  ASSERT_EQ(::kill(pid, SIGSTOP), 0);
  pass(usual_or_soak(10s, 60s));
  ASSERT_EQ(::kill(pid, SIGCONT), 0);
  EXPECT_TRUE(is_echoed(fd.get(), "after\n")) << words();
  const auto said = words();
  EXPECT_EQ(said.find("tunnel.lost"), std::string::npos)
      << "a probe, and no other session: " << said;
  EXPECT_EQ(said.find("tunnel.authenticated"), said.rfind("tunnel.authenticated")) << said;
  ::kill(pid, SIGTERM);
  int status = 0;
  ::waitpid(pid, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << words();
}
