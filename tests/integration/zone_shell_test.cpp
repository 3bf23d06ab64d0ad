// `ntrace zone shell` as a person has it: at a real terminal.
#include <sys/ioctl.h>

#include "tests/support/at_terminal.hpp"

using namespace ntrace;
using namespace std::chrono_literals;
using test::at_terminal;
using test::ok;

namespace {

class zone_shell : public ::testing::Test {
protected:
  void SetUp() override { NTRACE_NEEDS_ZONES(); }
  void TearDown() override { EXPECT_EQ(test::leftovers(dir.path()), ""); }
  subprocess_result zone(std::vector<std::string> words) {
    words.insert(words.begin(), "zone");
    words.insert(words.begin() + 2, {"--data", dir.path()});
    if (::geteuid() != 0) words.insert(words.begin() + 2, {"--zone-allow-degraded", "true"});
    return test::run_ntrace(words);
  }
  std::vector<std::string> shell_of(const std::string& uuid, std::vector<std::string> more = {}) {
    std::vector<std::string> words{"zone", "shell", "--data", dir.path(), uuid};
    if (::geteuid() != 0) words.insert(words.begin() + 2, {"--zone-allow-degraded", "true"});
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  test::scratch dir;
};

}  // namespace

TEST_F(zone_shell, is_a_shell_with_a_terminal_whose_work_a_snapshot_keeps) {
  const auto uuid = zone({"create", "--provision"}).out.substr(0, 36);
  {
    at_terminal uut{shell_of(uuid, {"--root"})};
    ASSERT_TRUE(uut.shows("zone# ")) << uut.seen();
    uut.type("test -t 0 && echo a-$((40 + 2))-b; mkdir /opt; echo tool > /opt/tool\n");
    ASSERT_TRUE(uut.shows("a-42-b"));
    // Ctrl-C ends what runs in the shell, and neither the shell nor us.
    // It says when it runs: a Ctrl-C before would be the shell's own.
    uut.type("sh -c 'echo e-$((40 + 1))-f; exec sleep 1000'\n");
    ASSERT_TRUE(uut.shows("e-41-f"));
    uut.type("\x03");
    uut.type("echo c-$((40 + 3))-d; exit 3\n");
    ASSERT_TRUE(uut.shows("c-43-d"));
    EXPECT_EQ(uut.end(), 3) << uut.seen();
  }
  EXPECT_EQ(zone({"snapshot", uuid}).exit_code, 0);
  EXPECT_EQ(zone({"exec", uuid, "--", "cat", "/opt/tool"}).out, "tool\n");
  const auto list = zone({"list"}).out;
  EXPECT_NE(list.find("image, clean"), std::string::npos) << list;
}

TEST_F(zone_shell, tells_the_program_of_the_windows_size) {
  const auto uuid = zone({"create"}).out.substr(0, 36);
  at_terminal uut{shell_of(uuid)};
  ASSERT_TRUE(uut.shows("zone$ ")) << uut.seen();
  const winsize size{33, 111, 0, 0};
  ASSERT_EQ(::ioctl(uut.terminal(), TIOCSWINSZ, &size), 0);
  const auto says_it = [&] {
    uut.type("stty size\n");
    return uut.shows("33 111");
  };
  EXPECT_TRUE(says_it());
  uut.type("exit\n");
  EXPECT_EQ(uut.end(), 0);
}

TEST_F(zone_shell, leaves_nothing_when_its_terminal_goes_away) {
  const auto uuid = zone({"create"}).out.substr(0, 36);
  {
    at_terminal uut{shell_of(uuid)};
    ASSERT_TRUE(uut.shows("zone$ ")) << uut.seen();
    uut.type("sleep 1000 &\n");
  }
  test::eventually(20s, [&] { return zone({"exec", uuid, "--", "true"}).exit_code == 0; });
}

TEST_F(zone_shell, says_what_else_there_is_when_there_is_no_terminal) {
  const auto refused = zone({"shell", "0f9b1c1e-0000-4000-8000-000000000000"});
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_NE(refused.err.find("zone exec"), std::string::npos) << refused.err;
}
