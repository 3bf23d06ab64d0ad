// Outages of what runs need, met by the program: a mirror, a name, a registry that is away.
#include <gtest/gtest.h>

#include "tests/support/program_parts.hpp"

using namespace ntrace;
using namespace ntrace::test;
using namespace std::chrono_literals;

namespace {

std::string push(server& to, const std::string& source) {
  return ok(to.call("push", json::array({"o", "r", sha, {{"source", source}}})))["run"];
}

json show(server& at, const std::string& run) { return ok(at.call("why", json::array({run}))); }

/// What the run waits for, once it has tried so often.
json outage_after(server& at, const std::string& run, int tries) {
  json seen;
  eventually(
      60s,
      [&] {
        seen = show(at, run);
        return seen.value("outage", json::object()).value("tries", 0) >= tries &&
               seen.contains("waits_for");
      },
      [&] { return seen.dump() + at.log(); });
  return seen;
}

json listed(server& at, const std::string& run) {
  for (const auto& r : ok(at.call("runs", json::array({json::object()}))))
    if (r["run"] == run) return r;
  return {};
}

/// A registry with one package, on a port that was free a moment ago.
class registry {
public:
  registry(const scratch& dir, std::uint16_t port) {
    shell("cd " + dir.path() +
          " && mkdir -p package && echo '{\"name\":\"tiny\",\"version\":\"1.0.0\"}' > "
          "package/package.json && tar czf tiny.tgz package");
    int in[2], out[2];
    EXPECT_EQ(::pipe2(in, O_CLOEXEC) + ::pipe2(out, O_CLOEXEC), 0);
    stdin_ = unique_fd{in[1]};
    const unique_fd child_in{in[0]}, child_out{out[1]}, from{out[0]};
    subprocess_spec spec;
    spec.argv = {"node", NTRACE_TESTS "/integration/npm_registry.js", std::to_string(port),
                 dir / "tiny.tgz"};
    pid_ = ok(spawn_guarded(spec, child_in.get(), child_out.get(), -1));
    char line[16]{};
    EXPECT_GT(::read(from.get(), line, sizeof line - 1), 0);
  }
  ~registry() {
    stdin_.reset();
    ::waitpid(pid_, nullptr, 0);
  }
  registry(const registry&) = delete;
  registry& operator=(const registry&) = delete;

private:
  unique_fd stdin_;
  int pid_ = -1;
};

/// A package `work` that depends on the registry's one.
std::string make_dependent_package(const scratch& dir) {
  auto out = make_package(dir, "work", 50);
  dir.file("work/package.json", json{{"name", "work"},
                                     {"version", "1.0.0"},
                                     {"dependencies", {{"tiny", "1.0.0"}}},
                                     {"scripts", {{"benchmark", "node spin.js"}}}}
                                    .dump());
  return out;
}

}  // namespace

TEST(outage_program, waits_for_a_mirror_that_is_away_and_uses_up_no_attempt) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  make_package(dir, "work", 50);
  const auto commit = make_mirror(dir / "work", dir / "away.git");
  server uut{dir, {"up"}, {"--attempts", "2"}};
  const auto run = push(uut, "git+file://" + (dir / "m.git") + "#" + commit);
  const auto seen = outage_after(uut, run, 4);

  EXPECT_EQ(seen["outage"]["host"], dir / "m.git");
  EXPECT_EQ(seen["outage"]["cause"], "absent");
  EXPECT_EQ(listed(uut, run)["attempts"], 0);
  // While a try is under way the run waits for that.
  const auto says = [&](std::vector<std::string> words, const std::string& text) {
    words.insert(words.end(), {"--dispatcher", uut.dispatcher});
    std::string out;
    eventually(
        30s,
        [&] {
          out = run_ntrace(words).out;
          return out.find(text) != std::string::npos;
        },
        [&] { return out; });
  };
  says({"runs"}, "waits for " + (dir / "m.git") + ": not there since ");
  says({"runs"}, "UTC, next try in ");
  says({"why", run}, "UTC, next try in ");
  says({"show", run}, "  last    \"" + (dir / "m.git") + "\": No such file");

  std::filesystem::rename(dir / "away.git", dir / "m.git");
  EXPECT_EQ(uut.wait_for_end(run), "done");
  const auto after = listed(uut, run);
  EXPECT_EQ(after["attempts"], 1);
  EXPECT_GE(after["outages"], 4);
  EXPECT_FALSE(after.contains("waits_for"));
  const auto check = run_ntrace({"journal", "check", "--data", dir / "data"});
  EXPECT_EQ(check.exit_code, 0) << check.out << check.err;
}

TEST(outage_program, ends_a_run_at_once_when_the_commit_is_not_there) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  make_package(dir, "work", 50);
  make_mirror(dir / "work", dir / "m.git");
  server uut{dir};
  const auto pushed =
      run_ntrace({"push", "o", "r", sha, "--source", "git+file://" + (dir / "m.git") + "#" + sha,
                  "--wait", "--json", "--dispatcher", uut.dispatcher});
  EXPECT_EQ(pushed.exit_code, 4) << pushed.out << pushed.err;
  const auto said = json::parse(pushed.out);
  EXPECT_EQ(said["verdict"], "source_failed");
  EXPECT_TRUE(said["reason"].get<std::string>().starts_with("not_found: ")) << said;
  EXPECT_EQ(listed(uut, said["run"])["attempts"], 1);
}

TEST(outage_program, goes_on_waiting_after_the_dispatcher_was_killed) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  make_package(dir, "work", 50);
  const auto commit = make_mirror(dir / "work", dir / "away.git");
  std::string run;
  json before;
  {
    server first{dir};
    run = push(first, "git+file://" + (dir / "m.git") + "#" + commit);
    before = outage_after(first, run, 2);
    first.stop(SIGKILL);
  }
  server second{dir};
  const auto after = outage_after(second, run, before["outage"]["tries"].get<int>() + 1);
  EXPECT_EQ(after["outage"]["since_ms"], before["outage"]["since_ms"]);
  std::filesystem::rename(dir / "away.git", dir / "m.git");
  EXPECT_EQ(second.wait_for_end(run), "done");
}

TEST(outage_program, gives_up_once_the_patience_is_over) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  server uut{dir, {"up"}, {"--outage-patience-ms", "1000"}};
  const auto run = push(uut, "git+file://" + (dir / "m.git") + "#" + sha);
  EXPECT_EQ(uut.wait_for_end(run), "quarantined");
  const auto reason = show(uut, run)["reason"].get<std::string>();
  EXPECT_TRUE(reason.starts_with((dir / "m.git") + " could not be reached for ")) << reason;
  EXPECT_NE(reason.find(" tries since "), std::string::npos) << reason;
}

TEST(outage_program, waits_for_a_name_that_no_resolver_knows) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  server uut{dir, {"up"}, {"--attempts", "1"}};
  const auto run = push(uut, "git+https://forge.invalid/o/r.git#" + sha);
  const auto seen = outage_after(uut, run, 2);
  EXPECT_EQ(seen["outage"]["host"], "forge.invalid");
  EXPECT_EQ(ok(uut.call("cancel", json::array({run})))["state"], "cancelled");
}

TEST(outage_program, waits_for_the_registry_that_an_install_needs) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto package = make_dependent_package(dir);
  dir.file("work/.npmrc", "fetch-retries=0\n");
  const auto port = free_port();
  const auto at = "localhost:" + std::to_string(port);
  server uut{dir,
             {"up"},
             {"--attempts", "1", "--npm-registry", "http://" + at + "/", "--network-allow", at,
              "--network-allow-private", at}};
  const auto run = push(uut, package);
  const auto seen = outage_after(uut, run, 2);
  EXPECT_EQ(seen["outage"]["host"], "localhost");
  EXPECT_EQ(seen["outage"]["cause"], "refused");
  const registry back{dir, port};
  EXPECT_EQ(uut.wait_for_end(run), "done") << show(uut, run);
}

TEST(outage_program, waits_for_the_projects_own_registry_while_it_answers_not_now) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto package = make_dependent_package(dir);
  const auto port = free_port();
  const auto at = "localhost:" + std::to_string(port);
  dir.file("work/.npmrc", "fetch-retries=0\nregistry=http://" + at + "/\n");
  const registry busy{dir, port};
  dir.file("tiny.tgz.busy", "");
  server uut{
      dir, {"up"}, {"--attempts", "1", "--network-allow", at, "--network-allow-private", at}};
  const auto run = push(uut, package);
  const auto seen = outage_after(uut, run, 2);
  EXPECT_EQ(seen["outage"]["host"], at);
  std::filesystem::remove(dir / "tiny.tgz.busy");
  EXPECT_EQ(uut.wait_for_end(run), "done") << show(uut, run);
}

TEST(outage_program, is_told_by_profile_at_once) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto closed = "https://127.0.0.1:" + std::to_string(free_port()) + "/o/r.git";
  const auto away = run_ntrace({"profile", "git+" + closed + "#main", "-o", dir / "out"});
  EXPECT_EQ(away.exit_code, 3) << away.out << away.err;
  EXPECT_NE(away.out.find("unreachable: "), std::string::npos) << away.out;
  const auto absent = run_ntrace({"profile", dir / "nothing", "-o", dir / "out"});
  EXPECT_EQ(absent.exit_code, 4) << absent.out << absent.err;
  EXPECT_NE(absent.out.find("not_found: "), std::string::npos) << absent.out;
}
