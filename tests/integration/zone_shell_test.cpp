// `ntrace zone shell` as a person has it: at a real terminal.
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "tests/support/program.hpp"

using namespace ntrace;
using namespace std::chrono_literals;
using test::ok;

namespace {

/// A program at a terminal of its own.
class at_terminal {
public:
  explicit at_terminal(std::vector<std::string> words) {
    words.insert(words.begin(), test::program_path());
    std::vector<char*> argv;
    for (auto& w : words) argv.push_back(w.data());
    argv.push_back(nullptr);
    int fd = -1;
    pid_ = ::forkpty(&fd, nullptr, nullptr, nullptr);
    if (pid_ == 0) {
      ::execv(argv[0], argv.data());
      _exit(127);
    }
    terminal_ = unique_fd{fd};
  }
  ~at_terminal() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  at_terminal(const at_terminal&) = delete;
  at_terminal& operator=(const at_terminal&) = delete;

  void type(const std::string& keys) { ASSERT_TRUE(write_all(terminal_.get(), keys)); }
  bool shows(const std::string& text) {
    return test::eventually(
        20s, [&] { return read_on() && seen_.find(text) != seen_.npos; }, [&] { return seen_; });
  }
  int end() {
    test::eventually(
        20s, [&] { return !read_on(); }, [&] { return seen_; });
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  int terminal() const { return terminal_.get(); }
  const std::string& seen() const { return seen_; }

private:
  /// False when nobody has the other side any more.
  bool read_on() {
    pollfd one{terminal_.get(), POLLIN, 0};
    if (::poll(&one, 1, 10) <= 0) return true;
    char block[4096];
    const auto n = ::read(terminal_.get(), block, sizeof block);
    if (n > 0) seen_.append(block, static_cast<std::size_t>(n));
    return n > 0;
  }
  int pid_ = -1;
  unique_fd terminal_;
  std::string seen_;
};

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
