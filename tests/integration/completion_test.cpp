// Completion in real shells, and the manual pages as groff takes them.
#include "tests/support/program_parts.hpp"

using namespace ntrace;
using namespace ntrace::test;

namespace {

subprocess_result run(std::vector<std::string> argv) {
  subprocess_spec spec;
  spec.argv = std::move(argv);
  spec.env = {"PATH=" + std::filesystem::path{program_path()}.parent_path().string() +
              ":/usr/bin:/bin"};
  spec.deadline = 30s;
  return ok(run_subprocess(spec));
}

/// What bash puts in place of the last word of `line`, with a space between.
std::string in_bash(const std::string& line) {
  const auto done = run({"bash", "-c",
                         "alias elsewhere=$2; source " NTRACE_TESTS
                         "/../tools/completion/ntrace.bash; COMP_LINE=$1; "
                         "COMP_POINT=${#1}; _ntrace; echo \"${COMPREPLY[*]}\"",
                         "bash", line, program_path()});
  EXPECT_EQ(done.err, "");
  return done.out.substr(0, done.out.size() - 1);
}

/// What zsh would list for `words`, or "files".
std::string in_zsh(const std::string& words) {
  const auto done =
      run({"zsh", "-f", "-c",
           "_describe() { print -r -- \"${(@P)3}\" }; _files() { print files }; words=(" + words +
               "); CURRENT=$#words; source " NTRACE_TESTS "/../tools/completion/_ntrace"});
  EXPECT_EQ(done.err, "");
  return done.out;
}

}  // namespace

TEST(completion, offers_commands_options_and_values_in_bash) {
  EXPECT_EQ(in_bash("ntrace pu"), "push");
  EXPECT_EQ(in_bash("ntrace journal "), "check backup compact salvage");
  EXPECT_EQ(in_bash("ntrace  flame --format s"), "svg speedscope");
  EXPECT_EQ(in_bash("ntrace flame --format=s"), "svg speedscope") << "bash cuts words at =";
  EXPECT_EQ(in_bash("ntrace graph /tm"), "") << "then bash offers files";
  EXPECT_EQ(in_bash("elsewhere pu"), "push") << "an alias";
}

TEST(completion, offers_them_with_their_help_in_zsh) {
  if (::access("/usr/bin/zsh", X_OK) != 0) {
    if (std::getenv("CI")) FAIL() << "no zsh";
    GTEST_SKIP() << "no zsh";
  }
  EXPECT_EQ(in_zsh("ntrace pu"), "push:Push a commit durably; prints the run's id\n");
  EXPECT_EQ(in_zsh("ntrace flame --format s"), "svg speedscope\n");
  EXPECT_EQ(in_zsh("ntrace push --dispat"), "--dispatcher:HOST:PORT of the dispatcher\n");
  EXPECT_EQ(in_zsh("ntrace graph ''"), "files\n");
}

TEST(completion, offers_the_runs_that_the_dispatcher_knows) {
  const scratch dir;
  server uut{dir, {"dispatcher"}};
  const auto run =
      ok(uut.call("push", json::array({"o", "r", sha, {{"source", "dir:/tmp"}}})))["run"];
  EXPECT_EQ(in_bash("ntrace why --dispatcher " + uut.dispatcher + " "), run.get<std::string>());
  EXPECT_EQ(in_bash("ntrace why --dispatcher 127.0.0.1:1 "), "") << "nobody is there to ask";
}

TEST(man_pages, are_taken_by_groff_without_a_warning) {
  const scratch dir;
  ASSERT_EQ(run_ntrace({"man", dir / "man"}).exit_code, 0);
  int pages = 0;
  for (const auto& page : std::filesystem::directory_iterator{dir / "man"}) {
    ++pages;
    const auto done = run({"groff", "-man", "-ww", "-Tutf8", page.path()});
    EXPECT_EQ(done.exit_code, 0);
    EXPECT_EQ(done.err, "");
  }
  EXPECT_GT(pages, 40);
  EXPECT_NE(ok(read_file(dir / "man/ntrace-push.1")).find("idempotency key"), std::string::npos);
}
