// The chaos run itself: it finds nothing wrong with what we have, and does find bugs that are
// planted.
#include "tests/support/netns.hpp"

using namespace ntrace;
using namespace ntrace::test;
using namespace std::chrono_literals;

namespace {

json chaos(const std::string& seconds, const std::string& seed, const std::string& plant) {
  const scratch dir;
  std::vector<std::string> words{"chaos", "--seconds", seconds,  "--seed",  seed,
                                 "--dir", dir.path(),  "--json", "--plant", plant};
  subprocess_spec spec;
  spec.argv = {program_path()};
  spec.argv.insert(spec.argv.end(), words.begin(), words.end());
  spec.cwd = dir.path();  // Where the evidence goes.
  spec.deadline = 300s;
  spec.output_bytes_max = 16u << 20;
  const auto done = ok(run_subprocess(spec));
  auto figures = json::parse(done.out, nullptr, false);
  EXPECT_TRUE(figures.is_object()) << done.out << done.err;
  if (!figures.is_object()) return json::object();
  EXPECT_EQ(done.exit_code, figures["violations"].empty() ? 0 : 1) << done.err;
  const bool is_kept = std::filesystem::exists(dir / ("ntrace-chaos-" + seed + ".tar.gz"));
  EXPECT_EQ(is_kept, !figures["violations"].empty()) << "evidence is kept of violations";
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator{dir.path(), none})
    EXPECT_TRUE(entry.path().extension() == ".gz") << "left behind: " << entry.path();
  return figures;
}

}  // namespace

TEST(chaos, finds_nothing_wrong_and_repairs_everything) {
  NTRACE_NEEDS_ZONES();
  NTRACE_NEEDS_NETWORKS();
  const auto seen = chaos("45", "7", "0");
  EXPECT_EQ(seen["violations"], json::array());
  EXPECT_GE(seen["faults"].size(), 25u);
  EXPECT_GE(seen["kinds"].size(), 12u);
  EXPECT_GT(seen["pushes_acknowledged"], 10);
  EXPECT_EQ(seen["verdicts"], seen["pushes_acknowledged"]);
  for (const char* needed : {"S1", "S2", "S4", "S5", "S6", "S7", "S8", "S13", "S14", "L1"})
    EXPECT_TRUE(seen["met"].contains(needed)) << needed << " was not put to the test";
}

class chaos_with_a_bug : public ::testing::TestWithParam<int> {};
// As numbered in config/mutation.hpp.
INSTANTIATE_TEST_SUITE_P(planted, chaos_with_a_bug, ::testing::Values(2, 8, 11, 18, 35));

TEST_P(chaos_with_a_bug, finds_it) {
  NTRACE_NEEDS_ZONES();
  NTRACE_NEEDS_NETWORKS();
  const auto seen = chaos("30", "1", std::to_string(GetParam()));
  EXPECT_FALSE(seen["violations"].empty());
  if (!seen["violations"].empty()) std::cout << seen["violations"][0].dump() << "\n";
}
