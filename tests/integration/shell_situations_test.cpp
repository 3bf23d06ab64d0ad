// The situations of docs/operations.md, "With the shell": each is made, and the shell's answer says
// what the manual says that it does.
#include "tests/support/program.hpp"
#include "tests/support/shell_world.hpp"
#include "tests/support/wire.hpp"

using namespace ntrace;
using namespace ntrace::test;
using namespace std::chrono_literals;
using situation = test::shell_world;

namespace {

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

json value_of(const subprocess_result& said) {
  EXPECT_EQ(said.exit_code, 0) << said.err;
  return json::parse(said.out, nullptr, false);
}

}  // namespace

TEST_F(situation, a_run_waits_and_why_says_for_what) {
  server uut{dir, {"up"}, listening()};
  const auto run = ok(uut.call("push", json::array({"o", "r", sha}))).value("run", "");
  const auto why = as_viewer({"why", run}).out;
  EXPECT_TRUE(has(why, "waits_for") && has(why, "enrolled")) << why;
  EXPECT_TRUE(has(as_viewer({"status"}).out, "waiting")) << "and how many do";
  const auto traced = value_of(as_viewer({"--json", "trace", run}));
  EXPECT_EQ(traced["journal"].value("run", ""), run) << traced;
  EXPECT_TRUE(traced["lease"].is_null() && traced["worker"].is_null()) << "nobody has it";
}

TEST_F(situation, a_run_must_end_and_cancel_ends_it) {
  server uut{dir, {"up"}, listening()};
  const auto run = ok(uut.call("push", json::array({"o", "r", sha}))).value("run", "");
  EXPECT_EQ(with("operator", {"cancel", run}).exit_code, 0);
  EXPECT_EQ(uut.wait_for_end(run), "cancelled");
}

TEST_F(situation, a_run_is_in_quarantine_and_comes_back) {
  NTRACE_NEEDS_ZONES();
  server uut{dir, {"up"}, listening({"--workers", "1", "--attempts", "1"})};
  const auto source = make_package(dir, "spin", 60'000);
  const std::string run =
      ok(uut.call("push", json::array({"o", "r", sha, {{"source", source}}})))["run"];
  eventually(
      20s, [&] { return ok(uut.call("show", json::array({run})))["state"] == "running"; },
      [&] { return uut.log(); });
  EXPECT_EQ(with("operator", {"restart", "runner_sup/runner"}).exit_code, 0);
  ASSERT_EQ(uut.wait_for_end(run), "quarantined") << uut.log();
  EXPECT_TRUE(has(as_viewer({"runs", "quarantined"}).out, run));
  const auto why = as_viewer({"why", run}).out;
  EXPECT_TRUE(has(why, "infrastructure")) << why;
  const auto attempts = [&] { return ok(uut.call("show", json::array({run})))["attempts"].size(); };
  const auto before = attempts();
  EXPECT_EQ(with("operator", {"requeue", run}).exit_code, 0);
  eventually(
      20s, [&] { return attempts() > before; },
      [&] {
        return as_viewer({"why", run}).out + as_viewer({"tree"}).out + uut.log();
      });
}

TEST_F(situation, a_worker_is_broken_and_workers_say_why) {
  NTRACE_NEEDS_ZONES();
  server uut{dir, {"up"}, listening({"--workers", "1"})};
  const std::string uuid = value_of(as_viewer({"--json", "workers"}))[0]["uuid"];
  // Where the next generation would lie there is something else.
  const auto gen = dir / ("data/zones/" + uuid + "/gen");
  std::filesystem::rename(gen, gen + ".away");
  std::ofstream{gen} << "in the way";
  EXPECT_EQ(with("operator", {"restart", "runner_sup/runner"}).exit_code, 0);
  std::string seen;
  eventually(
      20s, [&] { return has(seen = as_viewer({"workers"}).out, "repairing"); },
      [&] { return seen + uut.log(); });
  EXPECT_TRUE(has(seen, "gen")) << seen;
  std::filesystem::remove(gen);
  std::filesystem::rename(gen + ".away", gen);
  eventually(
      20s,
      [&] {
        with("operator", {"enroll", uuid});
        return has(seen = as_viewer({"workers"}).out, "free");
      },
      [&] { return seen + uut.log(); });
}

TEST_F(situation, an_actor_fails_and_the_tree_says_how_often_and_why) {
  server uut{dir, {"up"}, listening({"--faults", "true"})};
  EXPECT_EQ(with("operator", {"inject", "throw", "runner_sup/link"}).exit_code, 0);
  std::string seen;
  eventually(
      10s, [&] { return has(seen = as_viewer({"tree"}).out, "an injected fault"); },
      [&] { return seen; });
  const auto rows = value_of(as_viewer({"--json", "actors"}));
  EXPECT_GE(actor(rows, "runner_sup/link")["restarts"], 1);
  EXPECT_LT(actor(rows, "runner_sup")["budget_left"], 3) << "what is left before it gives up";
}

TEST_F(situation, the_port_fails_and_what_its_peers_had_is_not_waited_for) {
  server uut{dir, {"up"}, listening({"--faults", "true"})};
  const std::string run =
      ok(uut.call("push", json::array({"o", "r", sha, {{"source", "dir:/tmp"}}})))["run"];
  wire first{uut.dispatcher};
  first.ask("next", json::array(), 1);
  ASSERT_EQ(first.reply()[0][1]["id"], run);
  EXPECT_EQ(with("operator", {"inject", "throw", "dispatcher_sup/rpc_server"}).exit_code, 0);
  EXPECT_TRUE(first.reply().is_null()) << "its connection is closed";
  // Until then nobody listens.
  eventually(10s, [&] { return uut.call("status", json::array()).has_value(); });
  wire second{uut.dispatcher};
  second.ask("next", json::array(), 1);
  EXPECT_EQ(second.reply()[0][1]["id"], run) << "well before the lease's 30 s";
  // The second consumer, and the runner's new link; nothing of before.
  json runners;
  eventually(
      10s,
      [&] {
        return (runners = value_of(as_viewer({"--json", "runners"}))).size() == 2;
      },
      [&] { return runners.dump(); });
}

TEST_F(situation, a_runner_is_gone_and_runners_lack_it) {
  server uut{dir, {"up"}, listening()};
  eventually(10s, [&] { return value_of(as_viewer({"--json", "runners"})).size() == 1; });
  EXPECT_EQ(with("operator", {"stop", "runner_sup/link"}).exit_code, 0);
  eventually(10s, [&] { return value_of(as_viewer({"--json", "runners"})).empty(); });
  EXPECT_EQ(with("operator", {"start", "runner_sup/link"}).exit_code, 0);
  eventually(10s, [&] { return value_of(as_viewer({"--json", "runners"})).size() == 1; });
}

TEST_F(situation, the_tunnel_is_down_and_says_what_it_meets) {
  const auto closed = std::to_string(free_port());
  const auto listen = std::to_string(free_port());
  run_ntrace({"tunnel", "keygen", "--data", dir / "data"});
  server uut{dir,
             {"runner"},
             listening({"--tunnel", "ssh://nobody@127.0.0.1:" + closed, "--tunnel-listen",
                        "127.0.0.1:" + listen})};
  std::string seen;
  eventually(
      10s, [&] { return has(seen = as_viewer({"tunnel"}).out, "refused"); }, [&] { return seen; });
  EXPECT_TRUE(has(seen, "state")) << seen;
  EXPECT_EQ(with("operator", {"retry"}).exit_code, 0) << "and dials at once";
}

TEST_F(situation, the_journal_is_slow_and_its_gauges_say_how_slow) {
  server uut{dir, {"up"}, listening()};
  ok(uut.call("push", json::array({"o", "r", sha})));
  const auto gauges = value_of(as_viewer({"--json", "gauges", "journal_commit"}));
  EXPECT_GE(gauges.value("journal_commits", 0), 1);
  EXPECT_GT(gauges.value("journal_commit_us_max", 0), 0);
  EXPECT_GE(gauges.value("journal_commit_us_sum", 0), gauges.value("journal_commit_us_max", 0));
}

TEST_F(situation, more_must_be_known_and_one_component_tells_more) {
  NTRACE_NEEDS_ZONES();
  server uut{dir, {"up"}, listening({"--workers", "1"})};
  EXPECT_FALSE(has(uut.log(), "zone.booted"));
  EXPECT_EQ(with("operator", {"level", "zone", "debug"}).exit_code, 0);
  EXPECT_EQ(with("operator", {"restart", "runner_sup/runner"}).exit_code, 0);
  eventually(
      20s, [&] { return has(uut.log(), "debug zone.booted"); }, [&] { return uut.log(); });
  EXPECT_EQ(with("operator", {"level", "zone", "default"}).exit_code, 0);
  EXPECT_EQ(with("operator", {"level", "zone", "loud"}).exit_code, 4);
}

TEST_F(situation, the_machine_is_to_be_serviced_and_takes_no_more_work) {
  server uut{dir, {"up"}, listening()};
  EXPECT_EQ(with("operator", {"drain"}).exit_code, 0);
  EXPECT_TRUE(value_of(as_viewer({"--json", "status"}))["dispatcher"].value("draining", false));
  EXPECT_EQ(with("operator", {"resume"}).exit_code, 0);
  EXPECT_FALSE(value_of(as_viewer({"--json", "status"}))["dispatcher"].value("draining", true));
}
