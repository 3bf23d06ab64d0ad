// The chaos run itself: it finds nothing wrong with what we have, and does find bugs that are
// planted.
#include <algorithm>
#include <set>

#include "tests/support/netns.hpp"

using namespace ntrace;
using namespace ntrace::test;
using namespace std::chrono_literals;

namespace {

/// What each server of the fleet logged last, out of the evidence, which goes with its folder.
std::string last_lines(const std::string& evidence) {
  subprocess_spec spec;
  spec.argv = {"tar",         "-xzf",  evidence,
               "--wildcards", "*.log", "--to-command=echo \"== $TAR_FILENAME\"; tail -n 80"};
  return ok(run_subprocess(spec)).out;
}

/// `is_wrong`: a violation would be a failure of the test.
json chaos(const std::string& seed, std::vector<std::string> more, bool is_wrong) {
  const scratch dir;
  std::vector<std::string> words{"chaos", "--seed", seed, "--dir", dir.path(), "--json"};
  words.insert(words.end(), more.begin(), more.end());
  subprocess_spec spec;
  spec.argv = {program_path()};
  spec.argv.insert(spec.argv.end(), words.begin(), words.end());
  spec.cwd = dir.path();  // Where the evidence goes.
  spec.deadline = 500s;
  spec.output_bytes_max = 16u << 20;
  const auto done = ok(run_subprocess(spec));
  auto figures = json::parse(done.out, nullptr, false);
  EXPECT_TRUE(figures.is_object()) << done.out << done.err;
  if (!figures.is_object()) return json::object();
  EXPECT_EQ(done.exit_code, figures["violations"].empty() ? 0 : 1) << done.err;
  const auto evidence = dir / ("ntrace-chaos-" + seed + ".tar.gz");
  const bool is_kept = std::filesystem::exists(evidence);
  EXPECT_EQ(is_kept, !figures["violations"].empty()) << "evidence is kept of violations";
  if (is_kept && is_wrong) std::cout << done.err << last_lines(evidence);
  if (is_kept) {
    const auto again = run_ntrace({"sim", "--replay", evidence, "--runs", "20"});
    EXPECT_EQ(again.exit_code, 0) << "without the bug: " << again.out << again.err;
    EXPECT_NE(again.out.find("faults with 20 seeds, violations 0"), std::string::npos) << again.out;
  }
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator{dir.path(), none})
    EXPECT_TRUE(entry.path().extension() == ".gz") << "left behind: " << entry.path();
  return figures;
}

}  // namespace

TEST(chaos, finds_nothing_wrong_and_repairs_everything) {
  NTRACE_NEEDS_ZONES();
  NTRACE_NEEDS_NETWORKS();
  const auto seen = chaos("7", {"--minutes", "3"}, true);
  EXPECT_EQ(seen["violations"], json::array());
  EXPECT_GE(seen["faults"].size(), 100u);
  EXPECT_GE(seen["kinds"].size(), 12u);
  EXPECT_GT(seen["pushes_acknowledged"], 10);
  EXPECT_EQ(seen["verdicts"], seen["pushes_acknowledged"]);
  for (const char* needed : {"S1", "S2", "S4", "S5", "S6", "S7", "S8", "S13", "S14", "L1"})
    EXPECT_TRUE(seen["met"].contains(needed)) << needed << " was not put to the test";
  std::set<std::string> kinds;
  for (const auto& kind : seen["kinds"]) kinds.insert(kind["kind"]);
  EXPECT_TRUE(kinds.count("outage")) << "no run was seen to wait for the forge" << seen["missed"];
  EXPECT_TRUE(kinds.count("lease_outlived")) << seen["missed"];
  EXPECT_GT(seen["outages"], 0);
  EXPECT_GT(seen["repositories_seen_in_zones"], 10);
}

namespace {

struct planted_bug {
  const char *number, *name;  ///< As in config/mutation.hpp.
  const char *faults, *seconds;
  const char* rule = "";  ///< Which must find it; empty: any.
};
void PrintTo(const planted_bug& bug, std::ostream* out) { *out << bug.name; }

class chaos_with_a_bug : public ::testing::TestWithParam<planted_bug> {};

INSTANTIATE_TEST_SUITE_P(
    planted, chaos_with_a_bug,
    ::testing::Values(
        planted_bug{"8", "outbox_deletes_on_send", "link_down,link_drop,tunnel_kill", "30"},
        planted_bug{"10", "cancel_in_memory", "dispatcher_kill", "15"},
        planted_bug{"18", "script_failure_retried", "zone_kill", "15"},
        planted_bug{"35", "failed_run_keeps_its_worker", "zone_kill", "15"},
        planted_bug{"29", "outage_counts_as_attempt", "outage,link_down", "15", "S13"},
        planted_bug{"30", "zone_ignores_its_lease", "lease_outlived", "15", "S12"},
        planted_bug{"46", "folder_without_owner", "second_owner", "15"},
        planted_bug{"39", "restart_forgets_who_had_what", "dispatcher_kill", "15"}),
    [](const ::testing::TestParamInfo<planted_bug>& bug) { return std::string{bug.param.name}; });

}  // namespace

TEST_P(chaos_with_a_bug, finds_it) {
  NTRACE_NEEDS_ZONES();
  NTRACE_NEEDS_NETWORKS();
  const auto& bug = GetParam();
  // Whether a fault meets the bug is also chance: the processes are real, and so is their timing.
  json seen;
  for (const char* seed : {"1", "2", "3"}) {
    seen = chaos(seed,
                 {"--plant", bug.number, "--only", bug.faults, "--seconds", bug.seconds,
                  "--heal-seconds", "25"},
                 false);
    if (!seen["violations"].empty()) break;
    std::cout << "seed " << seed << " did not meet it\n";
  }
  EXPECT_FALSE(seen["only"].empty()) << "the command that repeats it has them";
  EXPECT_FALSE(seen["violations"].empty());
  const std::string rule{bug.rule};
  EXPECT_TRUE(rule.empty() || std::any_of(seen["violations"].begin(), seen["violations"].end(),
                                          [&](const json& v) { return v["invariant"] == rule; }))
      << seen["violations"];
  if (!seen["violations"].empty()) std::cout << seen["violations"][0].dump() << "\n";
}
