// What tools/run_tests says of tests that fail, and of those that pass when they are run again.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "config/subprocess.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/scratch.hpp"

using namespace ntrace;

namespace {

struct outcome {
  int exit_code;
  std::string last_line, out;
};

/// A build folder whose tests are these commands of the shell.
class build_folder {
public:
  explicit build_folder(const std::vector<std::pair<std::string, std::string>>& tests) {
    std::string file;
    for (const auto& [name, command] : tests)
      file += "add_test([=[" + name + "]=] sh -c [=[" + command + "]=])\nset_tests_properties([=[" +
              name + "]=] PROPERTIES SKIP_RETURN_CODE 77)\n";
    dir_.file("CTestTestfile.cmake", file);
  }
  outcome run(std::vector<std::string> env = {}) const {
    subprocess_spec spec;
    spec.argv = {std::string{NTRACE_TESTS} + "/../tools/run_tests", dir_.path()};
    spec.env = std::move(env);
    const auto done = test::ok(run_subprocess(spec));
    const auto end = done.out.find_last_not_of('\n');
    const auto begin = done.out.rfind('\n', end);
    return {done.exit_code, done.out.substr(begin + 1, end - begin), done.out};
  }
  std::string operator/(const std::string& name) const { return dir_ / name; }

private:
  test::scratch dir_;
};

/// Fails at its first run only.
std::string fails_once(const std::string& mark) {
  return "echo said at the first run; test -e " + mark + " || { touch " + mark + "; exit 3; }";
}

}  // namespace

TEST(run_tests, fails_and_keeps_the_log_when_a_test_is_flaky) {
  const std::string mark = "mark";
  const build_folder uut{{{"good", "true"}, {"zones/odd.one/linux", fails_once(mark)}}};

  const auto first = uut.run();

  EXPECT_EQ(first.exit_code, 1);
  EXPECT_EQ(first.last_line, "1 passed, 0 failed, 0 skipped, 1 flaky") << first.out;
  const auto log = uut / "flaky/zones_odd.one_linux.log";
  EXPECT_NE(first.out.find("flaky zones/odd.one/linux  " + log + "\n"), std::string::npos)
      << first.out;
  std::ostringstream kept;
  kept << std::ifstream{log}.rdbuf();
  EXPECT_NE(kept.str().find("said at the first run"), std::string::npos);
  EXPECT_EQ(kept.str().find("good"), std::string::npos);
  EXPECT_EQ(uut.run().last_line, "2 passed, 0 failed, 0 skipped, 0 flaky") << "it passes now";
}

TEST(run_tests, passes_over_a_flaky_test_only_when_told_to) {
  const build_folder uut{{{"odd", fails_once("mark")}}};
  const auto done = uut.run({"NTRACE_FLAKY=warn"});
  EXPECT_EQ(done.exit_code, 0);
  EXPECT_EQ(done.last_line, "0 passed, 0 failed, 0 skipped, 1 flaky") << done.out;
}

TEST(run_tests, fails_when_a_test_fails_twice) {
  const build_folder uut{{{"good", "true"}, {"bad", "false"}}};
  const auto done = uut.run({"NTRACE_FLAKY=warn"});
  EXPECT_EQ(done.exit_code, 1);
  EXPECT_EQ(done.last_line, "1 passed, 1 failed, 0 skipped, 0 flaky") << done.out;
}

TEST(run_tests, fails_in_ci_when_a_test_was_skipped) {
  const build_folder uut{{{"good", "true"}, {"absent", "exit 77"}}};
  const auto here = uut.run(), in_ci = uut.run({"CI=true"});
  EXPECT_EQ(here.exit_code, 0);
  EXPECT_EQ(here.last_line, "1 passed, 0 failed, 1 skipped, 0 flaky") << here.out;
  EXPECT_EQ(in_ci.exit_code, 1);
}

TEST(run_tests, fails_when_no_test_ran) { EXPECT_EQ(build_folder{{}}.run().exit_code, 1); }
