// A runner that is stopped past its lease while a job runs: what is in its zone dies in time, and
// only then does another runner begin the next attempt.
#include "tests/support/program_parts.hpp"

using namespace ntrace;
using namespace ntrace::test;

namespace {

struct stopped {
  const char* name;
  std::vector<std::string> also;  ///< Processes of the runner, by name, in the order of stopping.
};
void PrintTo(const stopped& what, std::ostream* out) { *out << what.name; }

class stopped_runner : public ::testing::TestWithParam<stopped> {
protected:
  static bool is_alive(int pid) {
    const auto stat = read_file("/proc/" + std::to_string(pid) + "/stat").value_or("");
    const auto after_name = stat.rfind(") ");
    return after_name != stat.npos && stat[after_name + 2] != 'Z' && stat[after_name + 2] != 'X';
  }
  static bool is_any_alive(const std::vector<int>& pids) {
    return std::any_of(pids.begin(), pids.end(), is_alive);
  }
  std::size_t workers_in(server& of, const char* state) {
    const auto list = of.call("workers", json::array(), true);
    std::size_t out = 0;
    for (const auto& w : list ? *list : json::array()) out += w.value("state", "") == state;
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(
    what, stopped_runner,
    ::testing::Values(stopped{"runner", {}}, stopped{"runner_and_helper", {"ntrace-helper"}},
                      stopped{"runner_and_init", {"ntrace-init"}},
                      stopped{"all_that_holds_the_zone",
                              {"ntrace-watchdog", "ntrace-helper", "ntrace-init"}}),
    [](const ::testing::TestParamInfo<stopped>& what) { return std::string{what.param.name}; });

}  // namespace

TEST_P(stopped_runner, has_no_process_in_its_zone_when_another_attempt_begins) {
  NTRACE_NEEDS_ZONES();
  const scratch dir, one, other;
  dir.file("package/package.json", R"({"name":"p","scripts":{"test":"node wait.js & wait"}})");
  dir.file("package/wait.js", "console.log('begun'); setInterval(() => {}, 10);");
  const std::vector<std::string> usual{"--lease-ms", "3000", "--zone-allow-degraded", "true"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), usual.begin(), usual.end());
    return more;
  };
  server dispatcher{dir, {"dispatcher"}, usual};
  const auto to = with({"--dispatcher", dispatcher.dispatcher, "--workers", "1"});
  server first{one, {"runner"}, to};
  const auto run =
      ok(dispatcher.call("push", json::array({"o", "p", sha, {{"source", dir / "package"}}})))
          .value("run", "");
  const auto shown = [&] { return ok(dispatcher.call("show", json::array({run}))); };
  eventually(
      30s,
      [&] {
        return ok(dispatcher.call("logs", json::array({run}))).dump().find("begun") !=
               std::string::npos;
      },
      [&] { return shown().dump() + first.log(); });
  server second{other, {"runner"}, to};

  const auto init = descendants(first.pid(), "ntrace-init");
  ASSERT_EQ(init.size(), 1u);
  auto in_zone = descendants(init[0], "node");
  ASSERT_FALSE(in_zone.empty());
  // On a very busy machine the lease of an earlier attempt may have run out by itself.
  const auto begun = shown()["attempts"].size();
  ASSERT_EQ(::kill(first.pid(), SIGSTOP), 0);
  std::vector<int> also;
  for (const auto& name : GetParam().also)
    for (const int pid : descendants(first.pid(), name)) also.push_back(pid);
  for (const int pid : also) ASSERT_EQ(::kill(pid, SIGSTOP), 0);
  ASSERT_TRUE(is_any_alive(in_zone)) << "the job goes on";

  std::int64_t dead_ms = 0;
  eventually(
      30s,
      [&] {
        if (dead_ms == 0 && !is_any_alive(in_zone)) dead_ms = wall_ms();
        return shown()["attempts"].size() == begun + 1;
      },
      [&] { return shown().dump() + dispatcher.log(); });
  EXPECT_FALSE(is_any_alive(in_zone)) << "two attempts at once";
  EXPECT_NE(dead_ms, 0);
  EXPECT_LE(dead_ms, shown()["attempts"][begun].value("offered_ms", std::int64_t{0}));

  ASSERT_EQ(::kill(first.pid(), SIGCONT), 0);
  for (const int pid : also) ::kill(pid, SIGCONT);
  eventually(
      30s, [&] { return workers_in(first, "free") == 1; }, [&] { return first.log(); });
  EXPECT_EQ(workers_in(second, "busy"), 1u) << "the second attempt is left alone";
  EXPECT_EQ(shown()["attempts"][begun - 1].value("verdict", "").find("script"), std::string::npos);
  ok(dispatcher.call("cancel", json::array({run})));
  EXPECT_EQ(dispatcher.wait_for_end(run), "cancelled");
  for (auto* one_of : {&second, &first, &dispatcher}) EXPECT_EQ(one_of->stop(), 0);
  for (const auto* data : {&one, &other}) EXPECT_EQ(leftovers(*data / "data"), "");
}
