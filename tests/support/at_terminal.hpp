#pragma once
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>

#include "tests/support/program.hpp"

namespace ntrace::test {

/// The program at a terminal of its own, of 80 columns and 24 lines.
class at_terminal {
public:
  /// `locale`: of LC_ALL; empty: that of the test.
  explicit at_terminal(std::vector<std::string> words, const std::string& locale = "") {
    words.insert(words.begin(), program_path());
    std::vector<char*> argv;
    for (auto& w : words) argv.push_back(w.data());
    argv.push_back(nullptr);
    int fd = -1;
    const winsize size{24, 80, 0, 0};
    pid_ = ::forkpty(&fd, nullptr, nullptr, &size);
    if (pid_ == 0) {
      ::setenv("TERM", "xterm", 1);
      if (!locale.empty()) ::setenv("LC_ALL", locale.c_str(), 1);
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
    return eventually(
        std::chrono::seconds{20}, [&] { return read_on() && seen_.find(text) != seen_.npos; },
        [&] { return seen_; });
  }
  void forget() { seen_.clear(); }
  int end() {
    eventually(
        std::chrono::seconds{20}, [&] { return !read_on(); }, [&] { return seen_; });
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

}  // namespace ntrace::test
