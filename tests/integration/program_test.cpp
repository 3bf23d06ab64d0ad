// The program run once, as people use it, with real zones, git and npm.
#include <gtest/gtest.h>

#include <sstream>
#include <thread>

#include "tests/support/program_parts.hpp"

using namespace ntrace;
using namespace ntrace::test;
using namespace std::chrono_literals;

TEST(profile, draws_a_package_and_leaves_nothing_behind) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto package = test::make_package(dir, "spin", 1000);

  const auto done = run_ntrace(in(dir, {"profile", package, "-o", dir / "out"}));

  EXPECT_EQ(done.exit_code, 0) << done.out << done.err;
  // With the column behind it, where Node tells it.
  EXPECT_NE(done.out.find("fibonacci spin.js:1"), std::string::npos) << done.out;
  const auto folded = ok(read_file(dir / "out/stacks.folded"));
  EXPECT_NE(folded.find("fibonacci spin.js:1"), std::string::npos);
  EXPECT_NE(ok(read_file(dir / "out/output.log")).find("NTRACE=true true"), std::string::npos);
  EXPECT_NE(ok(read_file(dir / "out/output.log")).find("to stderr"), std::string::npos);
  const auto run = json::parse(ok(read_file(dir / "out/run.json")));
  EXPECT_EQ(run["verdict"], "passed");
  EXPECT_TRUE(run["receipt"]["clean"]["ok"].get<bool>());
  EXPECT_GT(run["receipt"]["samples"].get<int>(), 100);
  for (const char* file : {"flame.svg", "flame.html"})
    EXPECT_GT(std::filesystem::file_size(dir / ("out/" + std::string{file})), 10'000u);
  EXPECT_EQ(test::leftovers(dir / "data"), "");
  EXPECT_TRUE(std::filesystem::is_empty(dir / "data/zones"));
  EXPECT_TRUE(std::filesystem::is_empty(dir / "data/scratch"));
}

TEST(profile, shows_where_a_cpu_bound_benchmark_spends_its_time) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto done =
      run_ntrace(in(dir, {"profile", NTRACE_TESTS "/data/mandelbrot", "-o", dir / "out"}));
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_NE(done.out.find("renderRow benchmark.js:"), std::string::npos) << done.out;
  EXPECT_NE(ok(read_file(dir / "out/output.log")).find("under ntrace: true"), std::string::npos);
}

TEST(profile, still_draws_when_the_script_fails) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto done = run_ntrace(in(dir, {"profile", test::make_package(dir, "spin", 500, 3, "test"),
                                        "-o", dir / "out", "--json"}));
  EXPECT_EQ(done.exit_code, 1) << done.err;
  const auto answer = json::parse(done.out);
  EXPECT_EQ(answer["verdict"], "script_failed");
  EXPECT_EQ(answer["receipt"]["script"], "test");
  EXPECT_NE(ok(read_file(dir / "out/flame.svg")).find("fibonacci"), std::string::npos);
}

TEST(profile, says_what_is_wrong_with_a_source_at_once) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto code = [&](const std::string& spec) {
    return run_ntrace(in(dir, {"profile", spec, "-o", dir / "out"})).exit_code;
  };
  EXPECT_EQ(code(dir / "absent"), 4);
  EXPECT_EQ(code("npm:no-version"), 2);
  EXPECT_EQ(code("git+file:///no/such/repository#main"), 4);
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
  const auto done = run_ntrace(in(dir, {"profile", test::make_package(dir, "spin", 60'000), "-o",
                                        dir / "out", "--run-ms", "1500"}));
  EXPECT_EQ(done.exit_code, 5) << done.err;
  EXPECT_NE(done.out.find("timed_out"), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(dir / "out/flame.svg"));
}

TEST(profile, stops_at_an_interrupt_and_leaves_nothing_behind) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  subprocess_spec spec;
  spec.argv = {test::program_path(),
               "profile",
               test::make_package(dir, "spin", 60'000),
               "-o",
               dir / "out",
               "--data",
               dir / "data"};
  const int pid = ok(spawn_guarded(spec, -1, -1, -1));
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
  spec.argv = {test::program_path(),
               "profile",
               test::make_package(dir, "spin", 2500),
               "-o",
               dir / "out",
               "--json",
               "--data",
               dir / "data",
               "--backoff-min-ms",
               "10",
               "--backoff-max-ms",
               "20"};
  const int pid = ok(spawn_guarded(spec, -1, -1, -1));
  std::vector<int> inits;
  test::eventually(20s, [&] {
    return !test::descendants(pid, "perf").empty() &&
           !(inits = test::descendants(pid, "ntrace-init")).empty();
  });
  ASSERT_FALSE(inits.empty());
  ::kill(inits.front(), SIGKILL);
  int status = 0;
  test::eventually(60s, [&] { return ::waitpid(pid, &status, WNOHANG) == pid; });
  EXPECT_EQ(WEXITSTATUS(status), 0);
  const auto run = json::parse(ok(read_file(dir / "out/run.json")));
  EXPECT_EQ(run["attempts"], 2);
  EXPECT_EQ(run["receipt"]["clean"]["generation"], 2);
}

namespace {

/// The program as an ordinary user has it, in a folder that this user can read.
class ordinary_user {
public:
  explicit ordinary_user(const scratch& dir) : dir_{dir} {
    shell("chmod -R a+rX " + dir.path() + "; mkdir " + (dir / "home") + "; chown 65534:65534 " +
          (dir / "home") + "; cp " + program_path() + " " + (dir / "ntrace"));
  }
  subprocess_result run(std::vector<std::string> words) const {
    subprocess_spec spec;
    spec.argv = {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", dir_ / "ntrace"};
    spec.argv.insert(spec.argv.end(), words.begin(), words.end());
    spec.env = {"HOME=" + (dir_ / "home"), "TMPDIR=/tmp"};
    spec.output_bytes_max = 16u << 20;
    return ok(run_subprocess(spec));
  }

private:
  const scratch& dir_;
};

/// A folder for PATH in which perf is a program that only fails.
std::string broken_perf(const scratch& dir) {
  const auto stub = dir.file("bin/perf", "#!/bin/sh\necho no events here >&2\nexit 1\n");
  std::filesystem::permissions(stub, std::filesystem::perms::owner_all);
  return dir / "bin";
}

subprocess_result with_broken_perf(const scratch& dir, std::vector<std::string> words) {
  subprocess_spec spec;
  spec.argv = {"sh", "-c", "PATH=\"$0:$PATH\" exec \"$@\"", broken_perf(dir), program_path()};
  spec.argv.insert(spec.argv.end(), words.begin(), words.end());
  return ok(run_subprocess(spec));
}

}  // namespace

TEST(profile, runs_as_an_ordinary_user_as_far_as_the_kernel_allows) {
  NTRACE_NEEDS_ZONES();
  if (::geteuid() != 0) GTEST_SKIP() << "every test runs as an ordinary user here";
  const scratch dir;
  const auto package = test::make_package(dir, "spin", 700);
  const ordinary_user nobody{dir};
  const auto done = nobody.run({"profile", package, "-o", dir / "home/out"});
  EXPECT_EQ(done.exit_code, 0) << done.out << done.err;
  EXPECT_NE(done.err.find("ordinary user"), std::string::npos);
  EXPECT_NE(ok(read_file(dir / "home/out/output.log")).find("NTRACE=true true"), std::string::npos);
  EXPECT_EQ(nobody.run({"zone", "create"}).exit_code, 0);
}

TEST(profile, draws_several_at_a_time_for_an_ordinary_user) {
  NTRACE_NEEDS_ZONES();
  if (::geteuid() != 0) GTEST_SKIP() << "every test runs as an ordinary user here";
  const scratch dir;
  const auto package = test::make_package(dir, "spin", 700);
  const ordinary_user nobody{dir};
  std::vector<std::thread> users;
  for (const std::string n : {"1", "2", "3"})
    users.emplace_back([&, n] {
      const auto out = dir / "home/out" + n;
      const auto done =
          nobody.run({"profile", package, "-o", out, "--data", dir / "home/data" + n});
      EXPECT_EQ(done.exit_code, 0) << done.out << done.err;
      EXPECT_EQ(done.out.find("NO FLAME GRAPH"), std::string::npos) << done.out;
      EXPECT_NE(read_file(out + "/flame.svg").value_or("").find("fibonacci"), std::string::npos);
    });
  for (auto& one : users) one.join();
}

TEST(profile, is_no_success_without_a_flame_graph_unless_that_is_wanted) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto words = in(dir, {"profile", test::make_package(dir, "spin", 50), "-o", dir / "out"});
  const auto done = with_broken_perf(dir, words);
  EXPECT_EQ(done.exit_code, 5) << done.out << done.err;
  EXPECT_EQ(done.out.find("NO FLAME GRAPH: perf cannot record: no events here"), 0u) << done.out;
  EXPECT_NE(done.out.find("spin: passed"), std::string::npos) << done.out;
  auto optional = words;
  optional.emplace_back("--no-require-profile");
  const auto taken = with_broken_perf(dir, optional);
  EXPECT_EQ(taken.exit_code, 0) << taken.err;
  EXPECT_EQ(taken.out.find("NO FLAME GRAPH: "), 0u) << taken.out;
  const auto run = json::parse(ok(read_file(dir / "out/run.json")));
  EXPECT_FALSE(run["profile"]["made"].get<bool>());
}

TEST(doctor, takes_a_real_sample_in_each_mode_and_leaves_nothing_behind) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  shell("mkdir -m 777 " + (dir / "tried"));
  const auto lines = [](const std::string& text, const std::string& id) {
    std::string found;
    std::istringstream in{text};
    for (std::string line; std::getline(in, line);)
      if (line.find(" " + id + " ") != std::string::npos) found += line + "\n";
    return found;
  };
  const auto sampled = [](const std::string& line) {
    return line.starts_with("ok") && line.find(" samples of ") != std::string::npos &&
           line.find("hottest frame spin") != std::string::npos;
  };
  const auto as_us = run_ntrace({"doctor", "runner", "--data", dir / "tried"});
  EXPECT_TRUE(sampled(lines(as_us.out, "perf"))) << as_us.out;
  // A mode that is called able has shown it.
  const auto oci = lines(as_us.out, "oci");
  EXPECT_TRUE(oci.starts_with("missing") || sampled(oci)) << as_us.out;
  if (::geteuid() == 0) {
    const auto as_nobody = ordinary_user{dir}.run({"doctor", "--data", dir / "tried"});
    EXPECT_NE(as_nobody.out.find("not root"), std::string::npos) << as_nobody.out << as_nobody.err;
    EXPECT_TRUE(sampled(lines(as_nobody.out, "perf"))) << as_nobody.out;
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir / "tried")) << "nothing is left of what it tried";
}

TEST(doctor, does_not_call_a_machine_able_on_which_nothing_can_be_sampled) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto seen = with_broken_perf(dir, {"doctor", "runner", "--data", dir.path()});
  EXPECT_EQ(seen.exit_code, 4) << seen.out;
  EXPECT_NE(seen.out.find("profile_failed: perf cannot record: no events here"), std::string::npos)
      << seen.out;
  EXPECT_NE(seen.out.find("→ apt-get install linux-perf"), std::string::npos) << seen.out;
}

TEST(doctor, names_an_ssh_library_that_finds_no_changed_bytes) {
  const scratch dir;
  const auto said = [&](const std::string& version) {
    const auto stub = dir.file("dpkg-query", "#!/bin/sh\nprintf %s '" + version + "'\n");
    std::filesystem::permissions(stub, std::filesystem::perms::owner_all);
    subprocess_spec spec;
    spec.argv = {"sh", "-c",       "PATH=\"$1:$PATH\" exec \"$2\" doctor runner --data \"$1\"",
                 "sh", dir.path(), program_path()};
    return ok(run_subprocess(spec)).out;
  };
  EXPECT_NE(said("0.10.6-0+deb12u2").find("degraded  libssh       0.10.6-0+deb12u2 takes changed"),
            std::string::npos);
  EXPECT_NE(said("0.10.6-0+deb12u3").find("ok        libssh       0.10.6-0+deb12u3 finds"),
            std::string::npos);
}

TEST(egress, refuses_what_the_list_does_not_name_and_says_how_to_allow_it) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto uuid = run_ntrace({"zone", "create", "--data", dir / "data"}).out.substr(0, 36);
  const auto try_host = [&](const std::string& host, const std::string& allow) {
    return run_ntrace(
        {"zone", "exec", uuid, "--network", "--data", dir / "data", "--network-allow", allow,
         "--zone-allow-degraded", "true", "--", "node", "-e",
         "const s=require('net').connect(3128,'127.0.0.1',()=>s.write('CONNECT " + host +
             " HTTP/1.1\\r\\nHost: " + host +
             "\\r\\n\\r\\n'));s.on('data',d=>{console.log(String(d));process.exit(0)})"});
  };
  const auto refused = try_host("evil.example:443", "good.example:443");
  EXPECT_NE(refused.out.find("403 Forbidden"), std::string::npos) << refused.out << refused.err;
  EXPECT_NE(refused.out.find("add \"evil.example:443\" to the setting network_allow"),
            std::string::npos);
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

TEST(flame_graph, works_in_a_real_browser_as_svg_and_html) {
  if (::access("/usr/bin/chromium", X_OK) != 0 || node_modules().empty()) {
    if (std::getenv("CI")) FAIL() << "no chromium or no node modules";
    GTEST_SKIP() << "no chromium or no node modules";
  }
  const scratch dir;
  dir.file("in.folded",
           "node;main;fibonacci spin.js:1:20_[j] "
           "700\nnode;main;</title><script>window.planted=1</script> "
           "200\nnode;main;]]><script>planted=1//;other 50\nnode;vfs_read_[k] 50\n");
  for (const char* format : {"svg", "html"}) {
    const auto file = dir / ("flame." + std::string{format});
    ASSERT_EQ(run_ntrace({"graph", dir / "in.folded", "--format", format, "-o", file}).exit_code,
              0);
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
    EXPECT_TRUE(got["fragment"].get<bool>() && got["full_width"].get<bool>() &&
                got["zoomed_by_key"].get<bool>())
        << seen.out;
    EXPECT_EQ(got["above_the_clicked"], "node (1000 samples, 100.0%)") << seen.out;
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
  const auto perf = dir.file("perf.txt",
                             "node 7 [000] 1.000001: 1001001 cpu-clock:\n\ta1 leaf+0x1 "
                             "(/usr/bin/node)\n\ta0 main+0x9 (/usr/bin/node)\n\n");
  EXPECT_EQ(run_ntrace({"fold", perf}).out, "node;main;leaf 1\n");
  EXPECT_EQ(run_ntrace({"fold", perf, "--pid"}).out, "node-7;main;leaf 1\n");
  EXPECT_EQ(run_ntrace({"fold", dir.file("junk", "what is this\n")}).exit_code, 4);
  EXPECT_EQ(run_ntrace({"fold", dir / "absent"}).exit_code, 4);
  const auto folded = dir.file("x.folded", "a;b 1\na;c 3\n");
  EXPECT_NE(run_ntrace({"graph", folded}).out.find("<svg"), std::string::npos);
  EXPECT_NE(run_ntrace({"graph", folded, "--format", "text"}).out.find("75.0%"), std::string::npos);
  EXPECT_EQ(
      json::parse(
          run_ntrace({"graph", folded, "--format", "speedscope"}).out)["profiles"][0]["endValue"],
      4);
  EXPECT_EQ(run_ntrace({"graph", folded, "--format", "nope"}).exit_code, 2);
}

TEST(config, prints_values_and_where_they_come_from) {
  const auto shown = json::parse(
      run_ntrace({"config", "--json", "--workers", "3"}, 10s, {"NTRACE_ATTEMPTS=7"}).out);
  EXPECT_EQ(shown["workers"]["from"], "flag --workers");
  EXPECT_EQ(shown["attempts"]["value"], "7");
  EXPECT_EQ(shown["attempts"]["from"], "env NTRACE_ATTEMPTS");
  EXPECT_EQ(run_ntrace({"config", "--workers", "many"}).exit_code, 2);
  EXPECT_EQ(run_ntrace({}).exit_code, 2);
  EXPECT_EQ(run_ntrace({"no-such-command"}).exit_code, 2);
  EXPECT_EQ(run_ntrace({"--version"}).exit_code, 0);
}
