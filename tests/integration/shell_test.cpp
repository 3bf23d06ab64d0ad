// The remote shell of a real server: CAF's protocol, OpenSSL, certificates of the test's own.
#include <gtest/gtest.h>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/io/middleman.hpp>
#include <caf/scoped_actor.hpp>

#include "tests/support/shell_world.hpp"

using namespace ntrace;
using namespace ntrace::test;
using namespace std::chrono_literals;
using remote_shell = test::shell_world;

namespace {

/// What does not change from one moment to the next.
json lasting(json tree) {
  for (auto& child : tree["children"]) {
    for (const char* passing :
         {"uptime_ms", "last_exit_ms_ago", "mailbox_size", "doing", "doing_ms"})
      child.erase(passing);
    if (child.contains("tree")) child["tree"] = lasting(child["tree"]);
  }
  return tree;
}

}  // namespace

TEST_F(remote_shell, shows_the_tree_that_runs) {
  server uut{dir, {"up"}, listening()};
  const auto shown = as_viewer({"--json", "tree"});
  EXPECT_EQ(shown.exit_code, 0) << shown.err << uut.log();
  EXPECT_EQ(lasting(json::parse(shown.out)), lasting(ok(uut.call("tree", json::array()))));
  const auto for_people = as_viewer({"tree"}).out;
  EXPECT_NE(for_people.find("├─ journal"), std::string::npos) << for_people;
  EXPECT_EQ(uut.stop(), 0);
}

TEST_F(remote_shell, acts_for_an_operator_and_notes_it) {
  server uut{dir, {"up"}, listening()};
  const auto incarnation = [&] {
    return actor(json::parse(as_viewer({"--json", "actors"}).out),
                 "runner_sup/link")["incarnation"];
  };
  EXPECT_EQ(incarnation(), 1);
  EXPECT_EQ(with("operator", {"restart", "runner_sup/link"}).exit_code, 0);
  EXPECT_EQ(incarnation(), 2);
  EXPECT_EQ(with("operator", {"stop", "dispatcher_sup/journal_monitor"}).exit_code, 0);
  EXPECT_EQ(actor(json::parse(as_viewer({"--json", "actors"}).out),
                  "dispatcher_sup/journal_monitor")["state"],
            "stopped");
  EXPECT_EQ(with("operator", {"start", "dispatcher_sup/journal_monitor"}).exit_code, 0);
  EXPECT_EQ(with("operator", {"drain"}).exit_code, 0);
  EXPECT_EQ(ok(uut.call("status", json::array()))["draining"], true);
  EXPECT_EQ(with("operator", {"inject", "kill", "runner_sup/link"}).exit_code, 4) << "no faults";
  const auto audit = read_file(dir / "data/shell_audit.jsonl").value();
  EXPECT_NE(audit.find(R"("args":["runner_sup/link"])"), std::string::npos) << audit;
  EXPECT_EQ(std::count(audit.begin(), audit.end(), '\n'), 5);
  EXPECT_EQ(uut.stop(), 0);
}

TEST_F(remote_shell, lets_a_viewer_only_look) {
  server uut{dir, {"up"}, listening()};
  const auto refused = as_viewer({"--json", "drain"});
  EXPECT_EQ(refused.exit_code, 4);
  EXPECT_NE((refused.out + refused.err).find("forbidden"), std::string::npos);
  EXPECT_EQ(ok(uut.call("status", json::array()))["draining"], false);
  EXPECT_FALSE(read_file(dir / "data/shell_audit.jsonl").has_value());
}

TEST_F(remote_shell, tells_nothing_to_who_has_no_certificate_of_ours) {
  server uut{dir, {"up"}, listening()};
  for (const char* who : {"other", "viewer"}) {
    const auto refused = with(who, {"tree"});
    EXPECT_EQ(refused.exit_code, 3) << who << refused.out;
    EXPECT_EQ(refused.out, "");
  }
  EXPECT_EQ(run_ntrace({"shell", "127.0.0.1:" + std::to_string(act_port), "tree"}).exit_code, 3);
  for (const std::string bytes : {"GET / HTTP/1.0\r\n\r\n", "[\"tree\",[],1]\n", "\x16\x03\x01"}) {
    subprocess_spec nc;
    nc.argv = {"sh", "-c",
               "printf '%s' '" + bytes + "' | nc -w 2 127.0.0.1 " + std::to_string(act_port)};
    const auto said = ok(run_subprocess(nc)).out;
    EXPECT_LE(said.size(), 7u) << "no more than a TLS alert";
    EXPECT_EQ(said.find("ntrace"), std::string::npos);
  }
  EXPECT_EQ(with("operator", {"tree"}).exit_code, 0) << "and it goes on; " << uut.log();
}

TEST_F(remote_shell, keeps_viewers_by_certificate_where_it_is_told_to) {
  auto flags = listening();
  flags.insert(flags.end(), {"--shell-viewer-ca-file", *files / "viewers.pem"});
  server uut{dir, {"up"}, flags};
  const auto by = [&](const std::string& who, const std::string& ca) {
    return run_ntrace({"shell", "127.0.0.1:" + std::to_string(view_port), "--cert",
                       *files / (who + ".pem"), "--key", *files / (who + ".key"), "--ca",
                       *files / ca, "--json", "drain"});
  };
  EXPECT_EQ(as_viewer({"tree"}).exit_code, 3) << "without a certificate";
  EXPECT_EQ(by("viewer", "operators.pem").exit_code, 4) << "it looks, and does not act";
  EXPECT_EQ(by("other", "operators.pem").exit_code, 3);
}

TEST_F(remote_shell, reads_a_script_and_fails_with_its_first_error) {
  server uut{dir, {"up"}, listening()};
  subprocess_spec spec;
  spec.argv = {"sh", "-c",
               "printf 'leases\\n# a comment\\nnonsense\\ngauges journal_queued\\n' | " +
                   program_path() + " shell 127.0.0.1:" + std::to_string(view_port) + " --json"};
  const auto done = ok(run_subprocess(spec));
  EXPECT_EQ(done.exit_code, 4);
  EXPECT_TRUE(done.out.starts_with("[]\n")) << done.out;
  EXPECT_NE(done.out.find("{\"journal_queued\":0}"), std::string::npos) << "it goes on";
}

TEST_F(remote_shell, completes_and_remembers_at_a_prompt) {
  server uut{dir, {"up"}, listening()};
  subprocess_spec spec;
  // A terminal by script(1), typed into once the prompt is there.
  spec.argv = {
      "sh", "-c",
      "mkfifo typed; (script -qec '" + program_path() +
          " shell 127.0.0.1:" + std::to_string(view_port) +
          "' /dev/null < typed > shown) & exec 3> typed; until grep -q 'ntrace>' shown; do "
          ":; done; printf 'gau\\t journal_que\\nquit\\n' >&3; wait; cat shown"};
  spec.env = {"HOME=" + dir.path(), "TERM=xterm"};
  spec.cwd = dir.path();
  const auto done = ok(run_subprocess(spec));
  EXPECT_NE(done.out.find("you are a viewer"), std::string::npos) << done.out << done.err;
  EXPECT_NE(done.out.find("journal_queued  0"), std::string::npos)
      << "gau + tab is gauges; " << done.out;
  const auto history = read_file(dir / ".ntrace_history").value_or("");
  EXPECT_NE(history.find("gauges"), std::string::npos) << history;
}

TEST_F(remote_shell, comes_back_when_its_actor_is_killed_and_disturbs_nobody) {
  auto flags = listening();
  flags.insert(flags.end(), {"--faults", "true"});
  server uut{dir, {"up"}, flags};
  EXPECT_EQ(with("operator", {"inject", "throw", "dispatcher_sup/journal_reader"}).exit_code, 0);
  EXPECT_EQ(with("operator", {"inject", "kill", "shell"}).exit_code, 0);
  eventually(
      10s, [&] { return as_viewer({"tree"}).exit_code == 0; }, [&] { return uut.log(); });
  const auto rows = json::parse(as_viewer({"--json", "actors"}).out);
  EXPECT_EQ(actor(rows, "shell")["incarnation"], 2);
  EXPECT_EQ(actor(rows, "dispatcher_sup/journal")["incarnation"], 1);
  const auto reader = actor(rows, "dispatcher_sup/journal_reader");
  EXPECT_GE(reader["incarnation"], 2);
  EXPECT_NE(reader["last_reason"].get<std::string>().find("an injected fault"), std::string::npos);
}

TEST_F(remote_shell, refuses_what_piles_up_because_a_peer_does_not_wait) {
  server uut{dir, {"up"}, listening()};
  caf::actor_system_config config;
  config.load<caf::io::middleman>();
  caf::actor_system system{config};
  const auto at =
      system.middleman().remote_actor("127.0.0.1", static_cast<std::uint16_t>(view_port));
  ASSERT_TRUE(at) << system.render(at.error());
  caf::scoped_actor self{system};
  const auto request = json{{"versions", {1}}, {"command", "tree"}, {"args", json::array()}}.dump();
  constexpr int asked = 20'000;
  for (int i = 0; i < asked; ++i) self->send(*at, request);
  int refused = 0, answered = 0;
  while (refused + answered < asked) {
    bool is_late = false;
    self->receive(
        [&](const std::string& text) {
          ++(text.find("overloaded") != text.npos ? refused : answered);
        },
        caf::after(30s) >> [&] { is_late = true; });
    ASSERT_FALSE(is_late) << refused << " refused, " << answered << " answered";
  }
  EXPECT_GT(answered, 0);
  EXPECT_GT(refused, 0);
  EXPECT_NE(as_viewer({"gauges", "shell_requests_refused"}).out.find(std::to_string(refused)),
            std::string::npos);
}

TEST_F(remote_shell, does_not_start_without_what_it_needs) {
  const auto code = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"up", "--data", dir / "data", "--workers", "0", "--dispatcher",
                                 "127.0.0.1:0", "--runner", "127.0.0.1:0"});
    return run_ntrace(std::move(flags)).exit_code;
  };
  EXPECT_EQ(code({"--shell-operator", "127.0.0.1:0"}), 2) << "no certificate";
  EXPECT_EQ(code({"--shell", "0.0.0.0:0"}), 2) << "open to everybody";
  EXPECT_EQ(code({"--shell-operator", "127.0.0.1:0", "--shell-cert-file", *files / "server.pem",
                  "--shell-key-file", *files / "gone", "--shell-operator-ca-file",
                  *files / "operators.pem"}),
            2);
}

TEST_F(remote_shell, closes_connections_that_speak_http_and_goes_on) {
  server uut{dir, {"up"}, listening()};
  for (const int port : {view_port, act_port}) {
    const auto at = ok(parse_host_port("127.0.0.1:" + std::to_string(port)));
    const auto fd = ok(net::connect_tcp(at, 5s));
    ASSERT_TRUE(net::send_all(fd.get(),
                              "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 14\r\n\r\n"
                              "[\"drain\",[],1]\n",
                              5s));
    char block[4096];
    EXPECT_TRUE(eventually(10s, [&] {
      const auto n = ::recv(fd.get(), block, sizeof block, MSG_DONTWAIT);
      return n == 0 || (n < 0 && errno != EAGAIN);
    }));
  }
  EXPECT_EQ(as_viewer({"--json", "tree"}).exit_code, 0);
  EXPECT_EQ(ok(uut.call("status", json::array()))["draining"], false);
  EXPECT_EQ(uut.stop(), 0);
}
