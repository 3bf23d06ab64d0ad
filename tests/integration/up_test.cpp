// The servers, with real zones, SQLite, git and npm; kill -9 for crashes.
#include <gtest/gtest.h>

#include "tests/support/program_parts.hpp"

using namespace ntrace;
using namespace ntrace::test;
using namespace std::chrono_literals;

namespace {

/// A run whose script works for so long.
std::string push_spin(server& to, const scratch& dir, int ms) {
  const auto source = test::make_package(dir, "spin", ms);
  return ok(to.call("push", json::array({"o", "r", sha, {{"source", source}}})))["run"];
}

std::string state_of(server& at, const std::string& run) {
  return ok(at.call("show", json::array({run})))["state"];
}

}  // namespace

TEST(up, carries_a_push_of_a_git_mirror_to_a_flame_graph) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  test::make_package(dir, "work", 800);
  const auto commit = make_mirror(dir / "work", dir / "m/o/r.git");
  server uut{dir,
             {"up"},
             {"--source-template", "git+file://" + dir.path() + "/m/{owner}/{repo}.git#{sha}"}};

  const auto pushed =
      run_ntrace({"push", "o", "r", commit, "--wait", "--json", "--dispatcher", uut.dispatcher});

  EXPECT_EQ(pushed.exit_code, 0) << pushed.out << pushed.err << uut.log();
  const auto run = json::parse(pushed.out)["run"].get<std::string>();
  const auto flame = run_ntrace({"flame", run, "--dispatcher", uut.dispatcher});
  EXPECT_NE(flame.out.find("fibonacci"), std::string::npos);
  EXPECT_NE(run_ntrace({"flame", run, "--format", "text", "--dispatcher", uut.dispatcher})
                .out.find("fibonacci spin.js"),
            std::string::npos);
  EXPECT_NE(run_ntrace({"logs", run, "--dispatcher", uut.dispatcher}).out.find("NTRACE=true"),
            std::string::npos);
  EXPECT_NE(run_ntrace({"why", run, "--dispatcher", uut.dispatcher}).out.find("rollback finished"),
            std::string::npos);
  EXPECT_NE(
      run_ntrace({"show", run, "--dispatcher", uut.dispatcher}).out.find("push → script started"),
      std::string::npos);
  EXPECT_NE(run_ntrace({"runs", "--repo", "o/r", "--dispatcher", uut.dispatcher}).out.find(run),
            std::string::npos);
  EXPECT_NE(run_ntrace({"workers", "--runner", uut.runner}).out.find("clean"), std::string::npos);
  const auto doctor =
      run_ntrace({"doctor", "runner", "--data", dir.path(), "--runner", uut.runner}).out;
  for (const char* part : {"cgroups", "namespaces", "overlay", "zone", "disk"})
    EXPECT_NE(doctor.find("ok        " + std::string{part}), std::string::npos) << doctor;
  EXPECT_NE(doctor.find("over folders of " + dir.path()), std::string::npos) << doctor;
  EXPECT_NE(doctor.find("1 enrolled at " + uut.runner + ", 0 of them broken"), std::string::npos)
      << doctor;
  const auto missing =
      run_ntrace({"push", "o", "r", sha, "--wait", "--dispatcher", uut.dispatcher});
  EXPECT_EQ(missing.exit_code, 4) << missing.out;
  EXPECT_EQ(uut.stop(), 0);
  EXPECT_EQ(test::leftovers(dir / "data"), "");
}

TEST(up, starts_the_script_of_a_folder_soon_after_the_push) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  server uut{dir};
  const auto run = push_spin(uut, dir, 50);
  EXPECT_EQ(uut.wait_for_end(run), "done");
  const auto shown = run_ntrace({"show", run, "--dispatcher", uut.dispatcher}).out;
  EXPECT_NE(shown.find("latency   push → script started "), std::string::npos) << shown;
}

TEST(up, answers_nc_on_the_same_line_discipline) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  server uut{dir, {"up"}, {"--workers", "0"}};
  const auto to = ok(parse_host_port(uut.dispatcher));
  const auto fd = ok(net::connect_tcp(to, 5s));
  const std::string big = "[" + std::string(5u << 20, 'x');
  ASSERT_TRUE(net::send_all(
      fd.get(),
      "[\"push\", [\"O\",\"R\",\"" + sha +
          "\"], 1]\n\r\nnonsense\n[\"nope\",[],\"x\"]\n[\"push\",[1,2,3],3]\n[\"status\",[],4]\n",
      5s));
  ::shutdown(fd.get(), SHUT_WR);  // As nc does at the end of its input.
  std::string text;
  char block[65536];
  for (ssize_t n = 0; (net::wait_ready(fd.get(), false, 10s) &&
                       (n = ::recv(fd.get(), block, sizeof block, 0)) > 0);)
    text.append(block, static_cast<std::size_t>(n));
  EXPECT_NE(text.find("\"state\":\"queued\"}],1]\n"), std::string::npos) << text;
  EXPECT_NE(text.find("bad_request"), std::string::npos);
  EXPECT_NE(text.find("no_such_method\",\"message\":\"no method nope"), std::string::npos);
  EXPECT_NE(text.find("\"field\":\"owner\"") == std::string::npos ? text.find("owner must be") : 0,
            std::string::npos);
  EXPECT_NE(text.find("],4]\n"), std::string::npos);
  const auto flood = ok(net::connect_tcp(to, 5s));
  [[maybe_unused]] const bool cut = net::send_all(flood.get(), big, 5s);
  text.clear();
  for (ssize_t n = 0; (net::wait_ready(flood.get(), false, 10s) &&
                       (n = ::recv(flood.get(), block, sizeof block, 0)) > 0);)
    text.append(block, static_cast<std::size_t>(n));
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
    ASSERT_EQ(got["duplicates"], round == 0 ? 50 : 100) << seen.out;
    EXPECT_EQ(got["other"], "key_conflict") << "a key belongs to what was pushed with it";
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
    for (int i = 0; i < 3; ++i)
      runs.push_back(
          ok(first.call("push", json::array({"o", "r", sha, {{"source", package}}})))["run"]);
    workers = ok(first.call("workers", json::array(), true))[0]["uuid"];
    test::eventually(
        20s, [&] { return ok(first.call("show", json::array({runs[0]})))["state"] == "running"; });
    EXPECT_EQ(first.stop(SIGKILL), 128 + SIGKILL);
  }
  test::eventually(
      10s, [&] { return test::leftovers(dir / "data").empty(); },
      [&] { return test::leftovers(dir / "data"); });
  server second{dir, {"up"}, {"--workers", "1", "--lease-ms", "1000"}};
  EXPECT_EQ(ok(second.call("workers", json::array(), true))[0]["uuid"], workers);
  for (const auto& run : runs) EXPECT_EQ(second.wait_for_end(run), "done");
  EXPECT_EQ(second.stop(), 0);
}

TEST(up, retries_a_run_whose_zone_init_was_killed) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  server uut{dir};
  const auto run = push_spin(uut, dir, 2000);
  std::vector<int> inits;
  test::eventually(20s, [&] {
    return state_of(uut, run) == "running" &&
           !(inits = test::descendants(uut.pid(), "ntrace-init")).empty();
  });
  ASSERT_FALSE(inits.empty());
  ::kill(inits.front(), SIGKILL);
  EXPECT_EQ(uut.wait_for_end(run), "done");
  EXPECT_EQ(ok(uut.call("show", json::array({run})))["attempts"].size(), 2u);
}

TEST(up, goes_on_while_the_wall_clock_is_set) {
  NTRACE_NEEDS_ZONES();
#ifdef NTRACE_SANITIZES_ADDRESSES
  GTEST_SKIP() << "its runtime must be loaded first";
#endif
  const scratch dir;
  const auto clock = dir.file("clock", "+0");
  const auto wrapper = dir.file(
      "ntrace-by-another-clock",
      "#!/bin/sh\nexport LD_PRELOAD=/usr/lib/$(uname -m)-linux-gnu/faketime/libfaketimeMT.so.1 "
      "DONT_FAKE_MONOTONIC=1 FAKETIME_NO_CACHE=1 FAKETIME_TIMESTAMP_FILE=" +
          clock + "\nexec " + program_path() + " \"$@\"\n");
  std::filesystem::permissions(wrapper, std::filesystem::perms::owner_all);
  ::setenv("NTRACE_PROGRAM", wrapper.c_str(), 1);
  server uut{dir, {"up"}, {"--lease-ms", "1000"}};
  ::unsetenv("NTRACE_PROGRAM");
  const auto mapped = read_file("/proc/" + std::to_string(uut.pid()) + "/maps").value();
  ASSERT_NE(mapped.find("libfaketime"), std::string::npos) << "else this tests nothing";
  for (const std::string jump : {"-3d", "+3d", "+0"}) {
    const auto run = push_spin(uut, dir, 1500);
    const auto shown = [&] { return ok(uut.call("show", json::array({run}))); };
    test::eventually(20s, [&] { return shown()["state"] == "running"; });
    dir.file("clock", jump);
    EXPECT_EQ(uut.wait_for_end(run), "done") << jump;
    EXPECT_EQ(shown()["attempts"].size(), 1u) << jump << "\n" << uut.log();
  }
  EXPECT_EQ(uut.stop(), 0);
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
  const auto run = push_spin(uut, dir, 2000);
  test::eventually(20s, [&] { return state_of(uut, run) == "running"; });
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
  EXPECT_NE(run_ntrace({"why", run, "--dispatcher", uut.dispatcher}).out.find("waits for a worker"),
            std::string::npos);
  EXPECT_EQ(
      run_ntrace({"show", "01M876B6J4KZP9X4YQXE3X75SJ", "--dispatcher", uut.dispatcher}).exit_code,
      4);
  EXPECT_EQ(run_ntrace({"show", "x", "--dispatcher", uut.dispatcher}).exit_code, 4);
  EXPECT_EQ(run_ntrace({"runs", "--dispatcher", "127.0.0.1:1"}).exit_code, 3);
}

TEST(up, drains_at_sigterm_and_finishes_what_it_holds) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  std::string run;
  {
    server uut{dir};
    run = push_spin(uut, dir, 1500);
    test::eventually(20s, [&] { return state_of(uut, run) == "running"; });
    EXPECT_EQ(uut.stop(), 0) << uut.log();
  }
  EXPECT_EQ(test::leftovers(dir / "data"), "");
  server again{dir};
  EXPECT_EQ(state_of(again, run), "done");
}

TEST(up, stops_at_once_at_a_second_signal) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  server uut{dir};
  const auto run = push_spin(uut, dir, 60'000);
  test::eventually(20s, [&] { return state_of(uut, run) == "running"; });
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
  // Not while the worker is proved: then it would not take the run.
  test::eventually(
      20s, [&] { return ok(uut.call("workers", json::array(), true)).at(0)["state"] == "free"; });
  ::kill(helpers.front(), SIGSTOP);  // A zone's actor now waits for its answer for ever.
  const auto run = push_spin(uut, dir, 50);
  test::eventually(20s, [&] { return state_of(uut, run) != "queued"; });
  EXPECT_EQ(uut.stop(SIGTERM, 15s), 70);
  EXPECT_NE(uut.log().find("process.hard_exit"), std::string::npos);
  ::kill(helpers.front(), SIGCONT);
  test::eventually(
      10s, [&] { return test::leftovers(dir / "data").empty(); },
      [&] { return test::leftovers(dir / "data"); });
  server again{dir, {"up"}, {"--lease-ms", "500"}};
  EXPECT_EQ(again.wait_for_end(run), "done");
}

TEST(roles, run_apart_and_find_each_other_again) {
  NTRACE_NEEDS_ZONES();
  const scratch left, right;
  auto dispatcher = std::make_unique<server>(left, std::vector<std::string>{"dispatcher"});
  const auto at = dispatcher->dispatcher;
  server runner{right, {"runner"}, {"--dispatcher", at}};
  const auto package = test::make_package(left, "spin", 1500);
  const auto run =
      ok(dispatcher->call("push", json::array({"o", "r", sha, {{"source", package}}})))["run"]
          .get<std::string>();
  test::eventually(
      20s, [&] { return ok(dispatcher->call("show", json::array({run})))["state"] == "running"; });
  dispatcher->stop(SIGKILL);
  dispatcher = std::make_unique<server>(left, std::vector<std::string>{"dispatcher"},
                                        std::vector<std::string>{"--dispatcher", at});
  EXPECT_EQ(dispatcher->wait_for_end(run), "done");
  EXPECT_EQ(ok(dispatcher->call("show", json::array({run})))["attempts"].size(), 1u)
      << "the attempt outlived the dispatcher";
}

TEST(nano, gives_a_flame_graph_when_pushed_from_a_local_mirror) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  shell("cd " + dir.path() + " && npm pack --silent nano@4.1.4 && tar xzf nano-4.1.4.tgz");
  const auto commit = make_mirror(dir / "package", dir / "m/dscape/nano.git");
  server uut{dir,
             {"up"},
             {"--source-template", "git+file://" + dir.path() + "/m/{owner}/{repo}.git#{sha}"}};
  const auto pushed = run_ntrace(
      {"push", "dscape", "nano", commit, "--wait", "--json", "--dispatcher", uut.dispatcher}, 150s);
  EXPECT_EQ(pushed.exit_code, 1) << pushed.out << pushed.err << uut.log();
  const auto run = json::parse(pushed.out)["run"].get<std::string>();
  EXPECT_NE(run_ntrace({"flame", run, "--format", "folded", "--dispatcher", uut.dispatcher})
                .out.find(" nano.js:"),
            std::string::npos);
  EXPECT_EQ(uut.stop(), 0);
  EXPECT_EQ(test::leftovers(dir / "data"), "");
}

TEST(up, leaves_others_alone_when_half_closed_connections_end) {
  const test::scratch dir;
  test::server uut{dir, {"dispatcher"}};
  const auto to = ok(parse_host_port(uut.dispatcher));
  const auto pushed = ok(uut.call("push", json::array({"o", "r", std::string(40, 'a')})));
  const auto ask =
      json::array({"logs", json::array({pushed["run"], json{{"wait_ms", 300}}}), 1}).dump() + "\n";
  char buffer[4096];
  const auto is_served = [&](const unique_fd& fd) {
    return net::send_all(fd.get(), "[\"status\",[],1]\n", 5s) &&
           net::wait_ready(fd.get(), false, 10s) && ::recv(fd.get(), buffer, sizeof buffer, 0) > 0;
  };
  // Several of each, in turn: which number goes to whom is a matter of moments.
  std::vector<unique_fd> waiting, others;
  for (int i = 0; i < 16; ++i) {
    waiting.push_back(ok(net::connect_tcp(to, 5s)));
    ASSERT_TRUE(net::send_all(waiting.back().get(), ask, 5s));
    ::shutdown(waiting.back().get(), SHUT_WR);
    for (int k = 0; k < 3; ++k) {
      others.push_back(ok(net::connect_tcp(to, 5s)));
      ASSERT_TRUE(is_served(others.back()));
    }
  }
  for (const auto& fd : waiting) {
    std::string heard;
    for (ssize_t n; net::wait_ready(fd.get(), false, 10s) &&
                    (n = ::recv(fd.get(), buffer, sizeof buffer, 0)) > 0;)
      heard.append(buffer, static_cast<std::size_t>(n));
    EXPECT_TRUE(heard.starts_with("[[null,")) << heard;  // Answered, then closed.
  }
  for (const auto& fd : others) EXPECT_TRUE(is_served(fd)) << "closed with another's end";
}
