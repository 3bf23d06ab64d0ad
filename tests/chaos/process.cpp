#include "tests/chaos/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "config/file.hpp"
#include "tests/support/guardian.hpp"

namespace ntrace::chaos {

void wait_a_little() {
  constexpr int pause_ms = 20;
  ::poll(nullptr, 0, pause_ms);
}

result<void> process::start() {
  const unique_fd log{::open(log_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)};
  if (!log) return fail(io_error("open", log_, errno));
  subprocess_spec spec;
  spec.argv = {"nsenter", "--net=/run/netns/" + network_};
  spec.argv.insert(spec.argv.end(), argv_.begin(), argv_.end());
  spec.env = env_;
  const auto pid = test::spawn_guarded(spec, -1, log.get(), log.get());
  if (!pid) return fail(pid.error());
  pid_ = *pid;
  return {};
}

bool process::lives() const {
  siginfo_t ended{};
  return pid_ > 0 &&
         ::waitid(P_PID, static_cast<id_t>(pid_.load()), &ended, WEXITED | WNOHANG | WNOWAIT) ==
             0 &&
         ended.si_pid == 0;
}

result<subprocess_result> process::run_beside(const std::vector<std::string>& argv,
                                              milliseconds deadline) const {
  subprocess_spec spec;
  spec.argv = {"nsenter", "--net=/run/netns/" + network_};
  spec.argv.insert(spec.argv.end(), argv.begin(), argv.end());
  spec.env = env_;
  spec.deadline = deadline;
  return run_subprocess(spec);
}

void process::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

bool process::stop_all_threads(milliseconds deadline) const {
  signal(SIGSTOP);
  const auto is_stopped = [this] {
    std::error_code none;
    const std::filesystem::directory_iterator threads{"/proc/" + std::to_string(pid_) + "/task",
                                                      none};
    return !none && std::all_of(begin(threads), end(threads), [](const auto& thread) {
      // "PID (NAME) STATE …"; a name may hold any character.
      const auto stat = read_file((thread.path() / "stat").string()).value_or("");
      const auto name_ends = stat.rfind(") ");
      return name_ends != stat.npos && stat.compare(name_ends, 3, ") T") == 0;
    });
  };
  const auto end = steady_clock::now() + deadline;
  while (!is_stopped()) {
    if (steady_clock::now() > end || !lives()) return false;
    wait_a_little();
  }
  return true;
}

void process::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

int process::stop(milliseconds deadline) {
  if (pid_ <= 0) return -1;
  ::kill(pid_, SIGTERM);
  const auto end = steady_clock::now() + deadline;
  while (steady_clock::now() < end) {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    wait_a_little();
  }
  kill();
  return -1;
}

std::string process::died() {
  int status = 0;
  if (pid_ <= 0 || ::waitpid(pid_, &status, WNOHANG) != pid_) return "";
  pid_ = -1;
  return name_ + (WIFEXITED(status) ? " ended with " + std::to_string(WEXITSTATUS(status))
                                    : " was ended by signal " + std::to_string(WTERMSIG(status)));
}

}  // namespace ntrace::chaos
