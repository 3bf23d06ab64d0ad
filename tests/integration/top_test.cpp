// `ntrace top` as a person has it: at a real terminal of 80 columns and 24 lines.
#include "tests/support/at_terminal.hpp"
#include "tests/support/wire.hpp"

using namespace ntrace;
using namespace std::chrono_literals;
using namespace ntrace::test;

namespace {

constexpr const char* terminal_given_back = "\x1b[?1049l";  // xterm's rmcup, terminfo(5)

struct top : ::testing::Test {
  scratch dir;
  std::string at = "127.0.0.1:" + std::to_string(free_port());
  std::unique_ptr<server> dispatcher() {
    return std::make_unique<server>(dir, std::vector<std::string>{"dispatcher"},
                                    std::vector<std::string>{"--dispatcher", at});
  }
  at_terminal looking() { return at_terminal{{"top", "--dispatcher", at, "--seconds", "0.2"}}; }
};

}  // namespace

TEST_F(top, shows_the_fleet_until_q_and_gives_the_terminal_back) {
  auto fleet = dispatcher();
  auto uut = looking();
  ASSERT_TRUE(uut.shows("0 violations"));
  EXPECT_TRUE(uut.shows("LATEST RUN"));
  const auto run = ok(fleet->call("push", json::array({"o", "r", std::string(40, 'a')})));
  EXPECT_TRUE(uut.shows(run.value("run", "none"))) << "what is new, without being asked";
  uut.type("q");
  EXPECT_EQ(uut.end(), 0);
  EXPECT_NE(uut.seen().find(terminal_given_back), std::string::npos);
  EXPECT_EQ(fleet->stop(), 0);
}

TEST_F(top, shows_a_host_of_any_script_where_the_locale_has_it) {
  auto fleet = dispatcher();
  const auto words = std::vector<std::string>{"top", "--dispatcher", at, "--seconds", "0.2"};
  // Of what top shows, a runner's name is what may be of any script.
  wire runner{at};
  runner.ask("hello",
             json::array({{{"version", 1}, {"name", "b\u00fccher"}, {"workers", 1}, {"free", 1}}}),
             1);
  at_terminal uut{words, "C.UTF-8"};
  EXPECT_TRUE(uut.shows("b\u00fccher"));
  uut.type("q");
  EXPECT_EQ(uut.end(), 0);
  at_terminal plain{words, "C"};
  EXPECT_TRUE(plain.shows("b??cher"));
  plain.type("q");
  EXPECT_EQ(plain.end(), 0);
  EXPECT_EQ(fleet->stop(), 0);
}

TEST_F(top, tries_on_while_nobody_answers) {
  auto uut = looking();
  ASSERT_TRUE(uut.shows("no answer, trying again"));
  auto fleet = dispatcher();
  EXPECT_TRUE(uut.shows("0 violations"));
  fleet->stop(SIGKILL);
  uut.forget();
  EXPECT_TRUE(uut.shows("no answer, trying again"));
  uut.type("q");
  EXPECT_EQ(uut.end(), 0);
}

TEST_F(top, gives_the_terminal_back_when_it_is_interrupted) {
  auto fleet = dispatcher();
  auto uut = looking();
  ASSERT_TRUE(uut.shows("0 violations"));
  uut.type("\x03");
  EXPECT_NE(uut.end(), 0);
  EXPECT_NE(uut.seen().find(terminal_given_back), std::string::npos);
  fleet->stop(SIGKILL);
}
