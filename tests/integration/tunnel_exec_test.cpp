// Commands on the server's machine over a real sshd: how they end, are cancelled and are counted.
#include <future>

#include "tests/support/tunnel_world.hpp"

using namespace ntrace;
using namespace ntrace::test;
using tunnel::exec_end;
using tunnel::exec_outcome;
using tunnel::exec_request;

namespace {

struct exec_world : tunnel_world {
  using tunnel_world::tunnel_world;

  std::pair<tunnel::exec_id, std::future<exec_outcome>> begin(exec_request request) {
    auto answer = std::make_shared<std::promise<exec_outcome>>();
    auto future = answer->get_future();
    const auto id = engine->exec(std::move(request),
                                 [answer](exec_outcome o) { answer->set_value(std::move(o)); });
    return {id, std::move(future)};
  }
  exec_outcome wait(std::future<exec_outcome>& f, milliseconds deadline = 30s) {
    if (f.wait_for(deadline) != std::future_status::ready)
      throw std::runtime_error("no outcome: " + status().dump() + sshd.log());
    return f.get();
  }
  exec_outcome run(exec_request request) {
    auto begun = begin(std::move(request));
    return wait(begun.second);
  }
  exec_outcome run(std::vector<std::string> argv) {
    exec_request request;
    request.argv = std::move(argv);
    return run(std::move(request));
  }
  json exec_status() { return status().at("exec"); }
};

exec_request sh(const std::string& script, std::vector<std::string> args = {}) {
  exec_request out;
  out.argv = {"/bin/sh", "-c", script, "sh"};
  out.argv.insert(out.argv.end(), args.begin(), args.end());
  return out;
}

/// Processes on this machine with the word in their command line, ourselves apart.
std::vector<int> pids_with(const std::string& word) {
  std::vector<int> out;
  for (const auto& entry : std::filesystem::directory_iterator{"/proc"}) {
    const auto name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != name.npos || name == std::to_string(::getpid()))
      continue;
    if (read_file("/proc/" + name + "/cmdline").value_or("").find(word) != std::string::npos)
      out.push_back(std::stoi(name));
  }
  return out;
}
std::size_t processes_with(const std::string& word) { return pids_with(word).size(); }

/// A long sleep that no other test has.
std::string unique_sleep(random_source& random) {
  return "3" + std::to_string(100'000'000 + random.below(100'000'000));
}

}  // namespace

TEST(tunnel_exec, gives_a_command_its_words_and_input_and_takes_both_outputs_and_its_status) {
  seeded s;
  exec_world w;
  w.start().wait_for("up");
  const std::vector<std::string> words{"a b", "it's", "$HOME", "\n", "*",
                                       "",    "-n",   "\\",    "!x", "\xc3\xa9"};
  auto argv = words;
  argv.insert(argv.begin(), {"/usr/bin/printf", "%s|"});
  const auto said = w.run(argv);
  ASSERT_EQ(said.how, exec_end::exited) << said.why << said.err;
  std::string expected;
  for (const auto& word : words) expected += word + "|";
  EXPECT_EQ(said.out, expected);
  auto request = sh("cat; echo wrong >&2; exit 7");
  request.input = random_bytes(s.random, 300'000);
  const auto input = request.input;
  const auto end = w.run(std::move(request));
  ASSERT_EQ(end.how, exec_end::exited) << end.why;
  EXPECT_EQ(end.status, 7);
  EXPECT_EQ(hash(end.out), hash(input));
  EXPECT_EQ(end.err, "wrong\n");
}

TEST(tunnel_exec, tells_a_death_by_signal_and_an_end_that_nobody_told) {
  exec_world w;
  w.start().wait_for("up");
  const auto shell = w.run(sh("kill -9 $PPID"));
  EXPECT_EQ(shell.how, exec_end::signalled) << shell.why;
  EXPECT_EQ(shell.signal, "KILL");
  const auto command = w.run(sh("kill -9 $$"));
  EXPECT_EQ(command.how, exec_end::exited) << command.why;
  EXPECT_EQ(command.status, 128 + 9);
}

TEST(tunnel_exec, drains_both_outputs_and_keeps_no_more_than_the_bound) {
  exec_world w;
  w.start().wait_for("up");
  auto request = sh("head -c 104857600 /dev/zero >&2 & head -c 10485760 /dev/zero; wait");
  request.output_bytes_max = 1u << 20;
  const auto end = w.run(std::move(request));
  EXPECT_EQ(end.how, exec_end::exited) << end.why;
  EXPECT_TRUE(end.is_truncated);
  EXPECT_EQ(end.out.size(), 1u << 20);
  EXPECT_EQ(end.err.size(), 1u << 20);
}

TEST(tunnel_exec, cancels_a_command_with_all_that_it_started_though_it_ignores_TERM) {
  seeded s;
  exec_world w;
  w.settings.exec.kill_after = 300ms;
  w.start().wait_for("up");
  const auto time = unique_sleep(s.random);
  auto [id, outcome] = w.begin(sh("trap '' TERM; sleep $1 & sleep $1; sleep $1", {time}));
  eventually(10s, [&] { return processes_with(time) >= 3; });
  w.engine->cancel(id);
  const auto end = w.wait(outcome);
  EXPECT_EQ(end.how, exec_end::cancelled) << end.why;
  eventually(10s, [&] { return processes_with(time) == 0; });
  eventually(10s, [&] { return w.exec_status().value("places_used", 1) == 0; });
}

TEST(tunnel_exec, ends_at_its_deadline) {
  seeded s;
  exec_world w;
  w.start().wait_for("up");
  const auto time = unique_sleep(s.random);
  auto request = sh("sleep $1", {time});
  request.deadline = 300ms;
  EXPECT_EQ(w.run(std::move(request)).how, exec_end::timed_out);
  eventually(10s, [&] { return processes_with(time) == 0; });
}

TEST(tunnel_exec, cancels_after_reconnection_what_was_cancelled_while_the_tunnel_was_down) {
  seeded s;
  exec_world w;
  w.start().wait_for("up");
  const auto time = unique_sleep(s.random);
  auto [id, outcome] = w.begin(sh("echo begun >&2; sleep $1", {time}));
  eventually(10s, [&] { return processes_with(time) >= 2; });
  w.engine->cancel(id);
  w.sshd.stop();
  EXPECT_EQ(w.wait(outcome).how, exec_end::cancelled);
  w.sshd.start();
  eventually(
      20s, [&] { return processes_with(time) == 0; }, [&] { return w.status().dump(); });
}

TEST(tunnel_exec, says_unknown_when_the_session_is_lost_and_repeats_what_may_be_repeated) {
  seeded s;
  exec_world w;
  w.start().wait_for("up");
  const auto time = unique_sleep(s.random), flag = w.dir / "once";
  auto again = sh("test -e $2 && exit 5; : > $2; sleep $1", {time, flag});
  again.is_idempotent = true;
  auto [first_id, plain] = w.begin(sh("sleep $1", {time}));
  auto [second_id, repeated] = w.begin(std::move(again));
  eventually(10s, [&] { return ::access(flag.c_str(), F_OK) == 0 && processes_with(time) >= 4; });
  w.sshd.signal_sessions(SIGKILL);
  const auto lost = w.wait(plain);
  EXPECT_EQ(lost.how, exec_end::unknown);
  const auto end = w.wait(repeated);
  EXPECT_EQ(end.how, exec_end::exited) << end.why;
  EXPECT_EQ(end.status, 5);
  // The one that is unknown is nobody's any more: the test ends it.
  for (const int pid : pids_with(time)) ::kill(pid, SIGKILL);
}

TEST(tunnel_exec, leaves_a_process_alone_that_only_has_the_same_number) {
  exec_world w;
  w.start().wait_for("up");
  subprocess_spec spec;
  spec.argv = {"/bin/sleep", "1000"};
  const int innocent = ok(spawn_guarded(spec, -1, -1, -1));
  const auto end = w.run(sh(tunnel::cancel_line(innocent, std::string(32, 'a'), "KILL")));
  EXPECT_EQ(end.status, 0) << "nothing of that nonce is there";
  EXPECT_EQ(::kill(innocent, 0), 0);
  ::kill(innocent, SIGKILL);
  ::waitpid(innocent, nullptr, 0);
}

TEST(tunnel_exec, learns_that_a_server_takes_two_sessions_and_runs_all_commands) {
  exec_world w{"MaxSessions 2"};
  w.start().wait_for("up");
  std::vector<std::future<exec_outcome>> all;
  for (int i = 0; i < 20; ++i) all.push_back(w.begin(sh("echo $1", {std::to_string(i)})).second);
  for (int i = 0; i < 20; ++i) {
    const auto end = w.wait(all[static_cast<std::size_t>(i)]);
    EXPECT_EQ(end.how, exec_end::exited) << end.why;
    EXPECT_EQ(end.out, std::to_string(i) + "\n");
  }
  EXPECT_EQ(w.exec_status().value("places", 0), 2);
  const auto fd = w.connect();
  EXPECT_TRUE(is_echoed(fd.get(), "channels do not count\n"));
}
