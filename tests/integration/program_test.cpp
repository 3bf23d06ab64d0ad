// The program as people use it, with real zones, SQLite, git and npm.
#include <gtest/gtest.h>

#include <thread>

#include "tests/support/program.hpp"

using namespace ntrace;
using namespace std::chrono_literals;
using test::json;
using test::run_ntrace;
using test::ok;
using test::scratch;
using test::server;

namespace {

const std::string sha(40, 'a');

std::string node_modules() {
  const std::string folder = NTRACE_NODE_MODULES;
  return std::filesystem::exists(folder) ? folder : "";
}

subprocess_result node(const std::string& script, std::vector<std::string> words, milliseconds deadline = 60s) {
  subprocess_spec spec;
  spec.argv = {"node", std::string{NTRACE_TESTS "/integration/"} + script};
  spec.argv.insert(spec.argv.end(), words.begin(), words.end());
  spec.env = {"NODE_PATH=" + node_modules()};
  spec.deadline = deadline;
  return ok(run_subprocess(spec));
}

void shell(const std::string& script) {
  subprocess_spec spec;
  spec.argv = {"sh", "-ec", script};
  const auto done = ok(run_subprocess(spec));
  ASSERT_TRUE(done.ok()) << script << "\n" << done.err;
}

std::vector<std::string> in(const scratch& dir, std::vector<std::string> words) {
  words.insert(words.end(), {"--data", dir / "data", "--backoff-min-ms", "50", "--backoff-max-ms", "200"});
  return words;
}

}  // namespace

TEST(profile, draws_a_package_and_leaves_nothing_behind) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto package = test::make_package(dir, "spin", 1000);

  const auto done = run_ntrace(in(dir, {"profile", package, "-o", dir / "out"}));

  EXPECT_EQ(done.exit_code, 0) << done.out << done.err;
  EXPECT_NE(done.out.find("fibonacci spin.js:1:"), std::string::npos) << done.out;
  const auto folded = ok(read_file(dir / "out/stacks.folded"));
  EXPECT_NE(folded.find("fibonacci spin.js:1:"), std::string::npos);
  EXPECT_NE(ok(read_file(dir / "out/output.log")).find("NTRACE=true true"), std::string::npos);
  EXPECT_NE(ok(read_file(dir / "out/output.log")).find("to stderr"), std::string::npos);
  const auto run = json::parse(ok(read_file(dir / "out/run.json")));
  EXPECT_EQ(run["verdict"], "passed");
  EXPECT_TRUE(run["receipt"]["clean"]["ok"].get<bool>());
  EXPECT_GT(run["receipt"]["samples"].get<int>(), 100);
  for (const char* file : {"flame.svg", "flame.html"}) EXPECT_GT(std::filesystem::file_size(dir / ("out/" + std::string{file})), 10'000u);
  EXPECT_EQ(test::leftovers(dir / "data"), "");
  EXPECT_TRUE(std::filesystem::is_empty(dir / "data/zones"));
  EXPECT_TRUE(std::filesystem::is_empty(dir / "data/scratch"));
}

TEST(profile, still_draws_when_the_script_fails) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto done = run_ntrace(in(dir, {"profile", test::make_package(dir, "spin", 500, 3, "test"), "-o", dir / "out", "--json"}));
  EXPECT_EQ(done.exit_code, 1) << done.err;
  const auto answer = json::parse(done.out);
  EXPECT_EQ(answer["verdict"], "script_failed");
  EXPECT_EQ(answer["receipt"]["script"], "test");
  EXPECT_NE(ok(read_file(dir / "out/flame.svg")).find("fibonacci"), std::string::npos);
}

TEST(profile, says_what_is_wrong_with_a_source_at_once) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto code = [&](const std::string& spec) { return run_ntrace(in(dir, {"profile", spec, "-o", dir / "out"})).exit_code; };
  EXPECT_EQ(code(dir / "absent"), 4);
  EXPECT_EQ(code("npm:no-version"), 2);
  EXPECT_EQ(code("git+file:///no/such/repository#main"), 5);
  dir.file("empty/readme", "x");
  EXPECT_EQ(code(dir / "empty"), 1);
  dir.file("bad/package.json", "{");
  EXPECT_NE(code(dir / "bad"), 0);
  ASSERT_EQ(::symlink("/etc/passwd", (dir / "empty/x").c_str()), 0);
  EXPECT_EQ(code(dir / "empty"), 4);
}

TEST(profile, ends_a_script_at_its_deadline_and_draws_what_it_saw) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto done = run_ntrace(in(dir, {"profile", test::make_package(dir, "spin", 60'000), "-o", dir / "out", "--run-ms", "1500"}));
  EXPECT_EQ(done.exit_code, 5) << done.err;
  EXPECT_NE(done.out.find("timed_out"), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(dir / "out/flame.svg"));
}

TEST(profile, stops_at_an_interrupt_and_leaves_nothing_behind) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  subprocess_spec spec;
  spec.argv = {test::program_path(), "profile", test::make_package(dir, "spin", 60'000), "-o", dir / "out", "--data", dir / "data"};
  const int pid = ok(spawn_subprocess(spec, -1, -1, -1));
  test::eventually(20s, [&] { return !test::descendants(pid, "perf").empty(); });
  ::kill(pid, SIGINT);
  int status = 0;
  test::eventually(20s, [&] { return ::waitpid(pid, &status, WNOHANG) == pid; });
  EXPECT_EQ(WEXITSTATUS(status), 5);
  EXPECT_EQ(test::leftovers(dir / "data"), "");
}

TEST(profile, retries_from_clean_when_the_zones_init_is_killed) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  subprocess_spec spec;
  spec.argv = {test::program_path(), "profile", test::make_package(dir, "spin", 2500), "-o", dir / "out", "--json", "--data", dir / "data", "--backoff-min-ms", "10", "--backoff-max-ms", "20"};
  const int pid = ok(spawn_subprocess(spec, -1, -1, -1));
  std::vector<int> inits;
  test::eventually(20s, [&] { return !test::descendants(pid, "perf").empty() && !(inits = test::descendants(pid, "ntrace-init")).empty(); });
  ASSERT_FALSE(inits.empty());
  ::kill(inits.front(), SIGKILL);
  int status = 0;
  test::eventually(60s, [&] { return ::waitpid(pid, &status, WNOHANG) == pid; });
  EXPECT_EQ(WEXITSTATUS(status), 0);
  const auto run = json::parse(ok(read_file(dir / "out/run.json")));
  EXPECT_EQ(run["attempts"], 2);
  EXPECT_EQ(run["receipt"]["clean"]["generation"], 2);
}

TEST(up, carries_a_push_of_a_git_mirror_to_a_flame_graph) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  test::make_package(dir, "work", 800);
  shell("cd " + dir.path() + "/work && git init -q -b main . && git add -A && git -c user.name=t -c user.email=t@t commit -qm one && git clone -q --bare . " + dir.path() + "/m/o/r.git");
  subprocess_spec rev;
  rev.argv = {"git", "-C", dir / "work", "rev-parse", "HEAD"};
  const auto commit = ok(run_subprocess(rev)).out.substr(0, 40);
  server uut{dir, {"up"}, {"--source-template", "git+file://" + dir.path() + "/m/{owner}/{repo}.git#{sha}"}};

  const auto pushed = run_ntrace({"push", "o", "r", commit, "--wait", "--json", "--dispatcher", uut.dispatcher});

  EXPECT_EQ(pushed.exit_code, 0) << pushed.out << pushed.err << uut.log();
  const auto run = json::parse(pushed.out)["run"].get<std::string>();
  const auto flame = run_ntrace({"flame", run, "--dispatcher", uut.dispatcher});
  EXPECT_NE(flame.out.find("fibonacci"), std::string::npos);
  EXPECT_NE(run_ntrace({"flame", run, "--format", "text", "--dispatcher", uut.dispatcher}).out.find("fibonacci spin.js"), std::string::npos);
  EXPECT_NE(run_ntrace({"logs", run, "--dispatcher", uut.dispatcher}).out.find("NTRACE=true"), std::string::npos);
  EXPECT_NE(run_ntrace({"why", run, "--dispatcher", uut.dispatcher}).out.find("rollback finished"), std::string::npos);
  EXPECT_NE(run_ntrace({"show", run, "--dispatcher", uut.dispatcher}).out.find("push → script started"), std::string::npos);
  EXPECT_NE(run_ntrace({"runs", "--repo", "o/r", "--dispatcher", uut.dispatcher}).out.find(run), std::string::npos);
  EXPECT_NE(run_ntrace({"workers", "--runner", uut.runner}).out.find("clean"), std::string::npos);
  const auto missing = run_ntrace({"push", "o", "r", sha, "--wait", "--dispatcher", uut.dispatcher});
  EXPECT_EQ(missing.exit_code, 4) << missing.out;
  EXPECT_EQ(uut.stop(), 0);
  EXPECT_EQ(test::leftovers(dir / "data"), "");
}

TEST(up, starts_the_script_of_a_folder_soon_after_the_push) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  server uut{dir};
  const auto pushed = ok(uut.call("push", json::array({"o", "r", sha, {{"source", test::make_package(dir, "spin", 50)}}})));
  EXPECT_EQ(uut.wait_for_end(pushed["run"]), "done");
  const auto shown = run_ntrace({"show", pushed["run"], "--dispatcher", uut.dispatcher}).out;
  EXPECT_NE(shown.find("latency   push → script started "), std::string::npos) << shown;
}

TEST(up, answers_nc_on_the_same_line_discipline) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  server uut{dir, {"up"}, {"--workers", "0"}};
  const auto to = ok(parse_host_port(uut.dispatcher));
  const auto fd = ok(net::connect_tcp(to, 5s));
  const std::string big(5u << 20, 'x');
  ASSERT_TRUE(net::send_all(fd.get(), "[\"push\", [\"O\",\"R\",\"" + sha + "\"], 1]\n\r\nnonsense\n[\"nope\",[],\"x\"]\n[\"push\",[1,2,3],3]\n[\"status\",[],4]\n", 5s));
  ::shutdown(fd.get(), SHUT_WR);  // As nc does at the end of its input.
  std::string text;
  char block[65536];
  for (ssize_t n = 0; (net::wait_ready(fd.get(), false, 10s) && (n = ::recv(fd.get(), block, sizeof block, 0)) > 0);) text.append(block, static_cast<std::size_t>(n));
  EXPECT_NE(text.find("\"state\":\"queued\"}],1]\n"), std::string::npos) << text;
  EXPECT_NE(text.find("bad_request"), std::string::npos);
  EXPECT_NE(text.find("no_such_method\",\"message\":\"no method nope"), std::string::npos);
  EXPECT_NE(text.find("\"field\":\"owner\"") == std::string::npos ? text.find("owner must be") : 0, std::string::npos);
  EXPECT_NE(text.find("],4]\n"), std::string::npos);
  const auto flood = ok(net::connect_tcp(to, 5s));
  [[maybe_unused]] const bool cut = net::send_all(flood.get(), big, 5s);
  text.clear();
  for (ssize_t n = 0; (net::wait_ready(flood.get(), false, 10s) && (n = ::recv(flood.get(), block, sizeof block, 0)) > 0);) text.append(block, static_cast<std::size_t>(n));
  EXPECT_NE(text.find("line_too_long"), std::string::npos);
  EXPECT_TRUE(uut.call("status", json::array()));
}

TEST(up, serves_the_clients_of_rpc_stream) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  server uut{dir, {"up"}, {"--workers", "0"}};
  const auto port = std::to_string(ok(parse_host_port(uut.dispatcher)).port);
  int round = 0;
  for (const char* version : {"rpc-stream", "rpc-stream-1"}) {
    const auto seen = node("rpc_stream_client.js", {version, port, "dir"});
    ASSERT_EQ(seen.exit_code, 0) << version << seen.out << seen.err;
    const auto got = json::parse(seen.out);
    EXPECT_EQ(got["pushed"], round == 0 ? 50 : 0) << seen.out;
    EXPECT_EQ(got["duplicates"], round == 0 ? 50 : 100);
    EXPECT_EQ(got["bad"]["code"], "bad_argument");
    EXPECT_EQ(got["unknown"], "no_such_method");
    EXPECT_EQ(got["webhook"]["duplicate"], true);
    ++round;
  }
}

TEST(up, keeps_pushes_and_workers_over_a_kill_and_finishes_them) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto package = test::make_package(dir, "spin", 400);
  std::vector<std::string> runs;
  std::string workers;
  {
    server first{dir, {"up"}, {"--workers", "1"}};
    for (int i = 0; i < 3; ++i) runs.push_back(ok(first.call("push", json::array({"o", "r", sha, {{"source", package}}})))["run"]);
    workers = ok(first.call("workers", json::array(), true))[0]["uuid"];
    test::eventually(20s, [&] { return ok(first.call("show", json::array({runs[0]})))["state"] == "running"; });
    EXPECT_EQ(first.stop(SIGKILL), 128 + SIGKILL);
  }
  test::eventually(10s, [&] { return test::leftovers(dir / "data").empty(); }, [&] { return test::leftovers(dir / "data"); });
  server second{dir, {"up"}, {"--workers", "1", "--lease-ms", "1000"}};
  EXPECT_EQ(ok(second.call("workers", json::array(), true))[0]["uuid"], workers);
  for (const auto& run : runs) EXPECT_EQ(second.wait_for_end(run), "done");
  EXPECT_EQ(second.stop(), 0);
}

TEST(up, retries_a_run_whose_zone_init_was_killed) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  server uut{dir};
  const auto run = ok(uut.call("push", json::array({"o", "r", sha, {{"source", test::make_package(dir, "spin", 2000)}}})))["run"].get<std::string>();
  std::vector<int> inits;
  test::eventually(20s, [&] { return ok(uut.call("show", json::array({run})))["state"] == "running" && !(inits = test::descendants(uut.pid(), "ntrace-init")).empty(); });
  ASSERT_FALSE(inits.empty());
  ::kill(inits.front(), SIGKILL);
  EXPECT_EQ(uut.wait_for_end(run), "done");
  EXPECT_EQ(ok(uut.call("show", json::array({run})))["attempts"].size(), 2u);
}

TEST(up, enrolls_and_expels_and_remembers) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto made = run_ntrace({"zone", "create", "--data", dir / "data"});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const auto uuid = made.out.substr(0, 36);
  {
    server uut{dir, {"up"}, {"--workers", "0"}};
    const auto cli = [&](std::vector<std::string> words) {
      words.insert(words.end(), {"--runner", uut.runner});
      return run_ntrace(words);
    };
    EXPECT_EQ(cli({"enroll", "00000000-0000-4000-8000-000000000000"}).exit_code, 4);
    EXPECT_EQ(cli({"enroll", "nonsense"}).exit_code, 4);
    EXPECT_EQ(cli({"expel", uuid}).exit_code, 4);
    EXPECT_EQ(cli({"enroll", uuid}).exit_code, 0);
    EXPECT_EQ(cli({"enroll", uuid}).exit_code, 0);
    EXPECT_EQ(ok(uut.call("workers", json::array(), true)).size(), 1u);
    EXPECT_EQ(uut.stop(), 0);
  }
  server again{dir, {"up"}, {"--workers", "0"}};
  EXPECT_EQ(ok(again.call("workers", json::array(), true))[0]["uuid"], uuid);
  EXPECT_EQ(run_ntrace({"expel", uuid, "--runner", again.runner}).exit_code, 0);
  EXPECT_TRUE(ok(again.call("workers", json::array(), true)).empty());
}

TEST(up, cancels_a_running_run_and_requeues_it) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  server uut{dir};
  const auto run = ok(uut.call("push", json::array({"o", "r", sha, {{"source", test::make_package(dir, "spin", 2000)}}})))["run"].get<std::string>();
  test::eventually(20s, [&] { return ok(uut.call("show", json::array({run})))["state"] == "running"; });
  EXPECT_EQ(run_ntrace({"cancel", run, "--dispatcher", uut.dispatcher}).exit_code, 0);
  EXPECT_EQ(uut.wait_for_end(run), "cancelled");
  EXPECT_EQ(run_ntrace({"requeue", run, "--dispatcher", uut.dispatcher}).exit_code, 0);
  EXPECT_EQ(uut.wait_for_end(run), "done");
}

TEST(up, says_in_why_what_a_push_waits_for) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  server uut{dir, {"up"}, {"--workers", "0"}};
  const auto run = ok(uut.call("push", json::array({"o", "r", sha})))["run"].get<std::string>();
  EXPECT_NE(run_ntrace({"why", run, "--dispatcher", uut.dispatcher}).out.find("waits for a worker"), std::string::npos);
  EXPECT_EQ(run_ntrace({"show", "01M876B6J4KZP9X4YQXE3X75SJ", "--dispatcher", uut.dispatcher}).exit_code, 4);
  EXPECT_EQ(run_ntrace({"show", "x", "--dispatcher", uut.dispatcher}).exit_code, 4);
  EXPECT_EQ(run_ntrace({"runs", "--dispatcher", "127.0.0.1:1"}).exit_code, 3);
}

TEST(up, drains_at_sigterm_and_finishes_what_it_holds) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  std::string run;
  {
    server uut{dir};
    run = ok(uut.call("push", json::array({"o", "r", sha, {{"source", test::make_package(dir, "spin", 1500)}}})))["run"];
    test::eventually(20s, [&] { return ok(uut.call("show", json::array({run})))["state"] == "running"; });
    EXPECT_EQ(uut.stop(), 0) << uut.log();
  }
  EXPECT_EQ(test::leftovers(dir / "data"), "");
  server again{dir};
  EXPECT_EQ(ok(again.call("show", json::array({run})))["state"], "done");
}

TEST(up, stops_at_once_at_a_second_signal) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  server uut{dir};
  const auto run = ok(uut.call("push", json::array({"o", "r", sha, {{"source", test::make_package(dir, "spin", 60'000)}}})))["run"].get<std::string>();
  test::eventually(20s, [&] { return ok(uut.call("show", json::array({run})))["state"] == "running"; });
  ::kill(uut.pid(), SIGTERM);
  test::eventually(5s, [&] { return uut.log().find("process.draining") != std::string::npos; });
  EXPECT_EQ(uut.stop(SIGTERM, 15s), 0);
  EXPECT_EQ(test::leftovers(dir / "data"), "");
}

TEST(up, ends_at_its_hard_deadline_when_an_actor_hangs) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  server uut{dir, {"up"}, {"--drain-ms", "300", "--stop-ms", "2000"}};
  const auto helpers = test::descendants(uut.pid(), "ntrace-helper");
  ASSERT_FALSE(helpers.empty());
  ::kill(helpers.front(), SIGSTOP);  // A zone's actor now waits for its answer for ever.
  const auto run = ok(uut.call("push", json::array({"o", "r", sha, {{"source", test::make_package(dir, "spin", 50)}}})))["run"].get<std::string>();
  test::eventually(20s, [&] { return ok(uut.call("show", json::array({run})))["state"] != "queued"; });
  EXPECT_EQ(uut.stop(SIGTERM, 15s), 70);
  EXPECT_NE(uut.log().find("process.hard_exit"), std::string::npos);
  ::kill(helpers.front(), SIGCONT);
  test::eventually(10s, [&] { return test::leftovers(dir / "data").empty(); }, [&] { return test::leftovers(dir / "data"); });
  server again{dir, {"up"}, {"--lease-ms", "500"}};
  EXPECT_EQ(again.wait_for_end(run), "done");
}

TEST(profile, runs_as_an_ordinary_user_as_far_as_the_kernel_allows) {
  NTRACE_NEEDS_ZONES();
  if (::geteuid() != 0) GTEST_SKIP() << "every test runs as an ordinary user here";
  const scratch dir;
  const auto package = test::make_package(dir, "spin", 700);
  shell("chmod -R a+rX " + dir.path() + "; mkdir " + (dir / "home") + "; chown 65534:65534 " + (dir / "home") + "; cp " + test::program_path() + " " + (dir / "ntrace"));
  const auto as_nobody = [&](std::vector<std::string> words) {
    subprocess_spec spec;
    spec.argv = {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", dir / "ntrace"};
    spec.argv.insert(spec.argv.end(), words.begin(), words.end());
    spec.env = {"HOME=" + (dir / "home"), "TMPDIR=/tmp"};
    spec.output_bytes_max = 16u << 20;
    return ok(run_subprocess(spec));
  };
  const auto seen = as_nobody({"doctor"});
  EXPECT_NE(seen.out.find("not root"), std::string::npos) << seen.out << seen.err;
  const auto done = as_nobody({"profile", package, "-o", dir / "home/out"});
  EXPECT_EQ(done.exit_code, 0) << done.out << done.err;
  EXPECT_NE(done.err.find("ordinary user"), std::string::npos);
  EXPECT_NE(ok(read_file(dir / "home/out/output.log")).find("NTRACE=true true"), std::string::npos);
  EXPECT_EQ(as_nobody({"zone", "create"}).exit_code, 0);
}

TEST(egress, refuses_what_the_list_does_not_name_and_says_how_to_allow_it) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto uuid = run_ntrace({"zone", "create", "--data", dir / "data"}).out.substr(0, 36);
  const auto try_host = [&](const std::string& host, const std::string& allow) {
    return run_ntrace({"zone", "exec", uuid, "--network", "--data", dir / "data", "--network-allow", allow, "--zone-allow-degraded", "true", "--", "node", "-e",
                       "const s=require('net').connect(3128,'127.0.0.1',()=>s.write('CONNECT " + host + " HTTP/1.1\\r\\n\\r\\n'));s.on('data',d=>{console.log(String(d));process.exit(0)})"});
  };
  const auto refused = try_host("evil.example:443", "good.example:443");
  EXPECT_NE(refused.out.find("403 Forbidden"), std::string::npos) << refused.out << refused.err;
  EXPECT_NE(refused.out.find("add \"evil.example:443\" to the setting network_allow"), std::string::npos);
  const auto inside = try_host("localhost:22", "localhost:22");
  EXPECT_NE(inside.out.find("private address"), std::string::npos) << inside.out;
}

/// A real CouchDB client of 2013 with some 150 development dependencies from the registry.
TEST(nano, gives_a_flame_graph_of_its_own_files_though_tests_fail) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto done = run_ntrace(in(dir, {"profile", "npm:nano@4.1.4", "-o", dir / "out"}), 150s);
  EXPECT_EQ(done.exit_code, 1) << done.out << done.err;
  const auto svg = ok(read_file(dir / "out/flame.svg"));
  EXPECT_NE(svg.find(" nano.js:"), std::string::npos);
  EXPECT_NE(ok(read_file(dir / "out/output.log")).find("summary"), std::string::npos);
  EXPECT_EQ(test::leftovers(dir / "data"), "");
}

TEST(nano, gives_a_flame_graph_when_pushed_from_a_local_mirror) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  shell("cd " + dir.path() + " && npm pack --silent nano@4.1.4 && tar xzf nano-4.1.4.tgz && cd package && git init -q -b main . && git add -Af && "
        "git -c user.name=t -c user.email=t@t commit -qm one && git clone -q --bare . " + dir.path() + "/m/dscape/nano.git");
  subprocess_spec rev;
  rev.argv = {"git", "-C", dir / "package", "rev-parse", "HEAD"};
  const auto commit = ok(run_subprocess(rev)).out.substr(0, 40);
  server uut{dir, {"up"}, {"--source-template", "git+file://" + dir.path() + "/m/{owner}/{repo}.git#{sha}"}};
  const auto pushed = run_ntrace({"push", "dscape", "nano", commit, "--wait", "--json", "--dispatcher", uut.dispatcher}, 150s);
  EXPECT_EQ(pushed.exit_code, 1) << pushed.out << pushed.err << uut.log();
  const auto run = json::parse(pushed.out)["run"].get<std::string>();
  EXPECT_NE(run_ntrace({"flame", run, "--format", "folded", "--dispatcher", uut.dispatcher}).out.find(" nano.js:"), std::string::npos);
}

TEST(roles, run_apart_and_find_each_other_again) {
  NTRACE_NEEDS_ZONES();
  const scratch left, right;
  auto dispatcher = std::make_unique<server>(left, std::vector<std::string>{"dispatcher"});
  const auto at = dispatcher->dispatcher;
  server runner{right, {"runner"}, {"--dispatcher", at}};
  const auto package = test::make_package(left, "spin", 1500);
  const auto run = ok(dispatcher->call("push", json::array({"o", "r", sha, {{"source", package}}})))["run"].get<std::string>();
  test::eventually(20s, [&] { return ok(dispatcher->call("show", json::array({run})))["state"] == "running"; });
  dispatcher->stop(SIGKILL);
  dispatcher = std::make_unique<server>(left, std::vector<std::string>{"dispatcher"}, std::vector<std::string>{"--dispatcher", at});
  EXPECT_EQ(dispatcher->wait_for_end(run), "done");
  EXPECT_EQ(ok(dispatcher->call("show", json::array({run})))["attempts"].size(), 1u) << "the attempt outlived the dispatcher";
}

TEST(flame_graph, works_in_a_real_browser_as_svg_and_html) {
  if (::access("/usr/bin/chromium", X_OK) != 0 || node_modules().empty()) {
    if (std::getenv("CI")) FAIL() << "no chromium or no node modules";
    GTEST_SKIP() << "no chromium or no node modules";
  }
  const scratch dir;
  dir.file("in.folded", "node;main;fibonacci spin.js:1:20_[j] 700\nnode;main;</title><script>window.planted=1</script> 200\nnode;main;]]><script>planted=1//;other 50\nnode;vfs_read_[k] 50\n");
  for (const char* format : {"svg", "html"}) {
    const auto file = dir / ("flame." + std::string{format});
    ASSERT_EQ(run_ntrace({"graph", dir / "in.folded", "--format", format, "-o", file}).exit_code, 0);
    const auto seen = node("flame_browser.js", {file, dir / "shot.png"}, 120s);
    ASSERT_EQ(seen.exit_code, 0) << seen.out << seen.err;
    const auto got = json::parse(seen.out);
    EXPECT_EQ(got["errors"], json::array()) << format << seen.out;
    EXPECT_EQ(got["requests"], json::array());
    EXPECT_EQ(got["planted"], "undefined");
    EXPECT_GT(got["frames"], 6);
    EXPECT_LT(got["zoomed"], got["frames"]);
    EXPECT_EQ(got["zoomed_after_reload"], got["zoomed"]);
    EXPECT_EQ(got["reset"], got["frames"]);
    EXPECT_TRUE(got["fragment"].get<bool>() && got["full_width"].get<bool>() && got["zoomed_by_key"].get<bool>()) << seen.out;
    EXPECT_EQ(got["matched"], "Matched: 70.0%");
    EXPECT_EQ(got["hits"], 1);
    EXPECT_EQ(got["hits_after_escape"], 0);
    EXPECT_EQ(got["invalid"], "invalid expression");
    EXPECT_EQ(got["details"].get<std::string>().find("node (1000 samples"), 0u) << seen.out;
    EXPECT_NEAR(got["width_400"].get<int>(), 390, 20) << seen.out;
    EXPECT_NEAR(got["width_4000"].get<int>(), 3980, 40) << seen.out;
  }
}

TEST(engine, folds_and_draws_files_and_standard_input) {
  const scratch dir;
  const auto perf = dir.file("perf.txt", "node 7 [000] 1.000001: 1001001 cpu-clock:\n\ta1 leaf+0x1 (/usr/bin/node)\n\ta0 main+0x9 (/usr/bin/node)\n\n");
  EXPECT_EQ(run_ntrace({"fold", perf}).out, "node;main;leaf 1\n");
  EXPECT_EQ(run_ntrace({"fold", perf, "--pid"}).out, "node-7;main;leaf 1\n");
  EXPECT_EQ(run_ntrace({"fold", dir.file("junk", "what is this\n")}).exit_code, 4);
  EXPECT_EQ(run_ntrace({"fold", dir / "absent"}).exit_code, 4);
  const auto folded = dir.file("x.folded", "a;b 1\na;c 3\n");
  EXPECT_NE(run_ntrace({"graph", folded}).out.find("<svg"), std::string::npos);
  EXPECT_NE(run_ntrace({"graph", folded, "--format", "text"}).out.find("75.0%"), std::string::npos);
  EXPECT_EQ(json::parse(run_ntrace({"graph", folded, "--format", "speedscope"}).out)["profiles"][0]["endValue"], 4);
  EXPECT_EQ(run_ntrace({"graph", folded, "--format", "nope"}).exit_code, 2);
}

TEST(config, prints_values_and_where_they_come_from) {
  const auto shown = json::parse(run_ntrace({"config", "--json", "--workers", "3"}, 10s, {"NTRACE_ATTEMPTS=7"}).out);
  EXPECT_EQ(shown["workers"]["from"], "flag --workers");
  EXPECT_EQ(shown["attempts"]["value"], "7");
  EXPECT_EQ(shown["attempts"]["from"], "env NTRACE_ATTEMPTS");
  EXPECT_EQ(run_ntrace({"config", "--workers", "many"}).exit_code, 2);
  EXPECT_EQ(run_ntrace({}).exit_code, 2);
  EXPECT_EQ(run_ntrace({"no-such-command"}).exit_code, 2);
  EXPECT_EQ(run_ntrace({"--version"}).exit_code, 0);
}
