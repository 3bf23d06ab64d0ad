#include "config/subprocess.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>

namespace ntrace {
namespace {

std::vector<std::string> environment(const subprocess_spec& spec) {
  std::vector<std::string> out;
  const auto is_given = [&](const std::string& name) {
    return std::any_of(spec.env.begin(), spec.env.end(),
                       [&](const std::string& e) { return e.starts_with(name + "="); });
  };
  for (const char* name : {"PATH", "HOME", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"})
    if (const char* value = std::getenv(name); value && !is_given(name))
      out.push_back(std::string{name} + "=" + value);
  out.emplace_back("LC_ALL=C");
  out.insert(out.end(), spec.env.begin(), spec.env.end());
  return out;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> out;
  out.reserve(words.size() + 1);
  for (auto& w : words) out.push_back(w.data());
  out.push_back(nullptr);
  return out;
}

int pidfd_open(int pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }

struct pipe_ends {
  unique_fd read, write;
};

result<pipe_ends> make_pipe() {
  std::array<int, 2> fds{};
  if (::pipe2(fds.data(), O_CLOEXEC) != 0) return fail(io_error("pipe", "subprocess", errno));
  return pipe_ends{unique_fd{fds[0]}, unique_fd{fds[1]}};
}

/// Reads once; false at the end of the stream.
bool drain(int fd, std::string& into, std::size_t bytes_max) {
  char block[16384];
  const auto n = ::read(fd, block, sizeof block);
  if (n < 0) return errno == EINTR || errno == EAGAIN;
  if (n == 0) return false;
  const auto room = bytes_max - std::min(bytes_max, into.size());
  into.append(block, std::min(static_cast<std::size_t>(n), room));
  return true;
}

}  // namespace

result<int> spawn_subprocess(const subprocess_spec& spec, int in, int out, int err,
                             const std::vector<int>& pass) {
  auto argv = spec.argv;
  auto env = environment(spec);
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  const std::array<std::pair<int, int>, 3> stdio{{{in, 0}, {out, 1}, {err, 2}}};
  for (const auto& [fd, as] : stdio) {
    if (fd >= 0)
      posix_spawn_file_actions_adddup2(&actions, fd, as);
    else
      posix_spawn_file_actions_addopen(&actions, as, "/dev/null", as == 0 ? O_RDONLY : O_WRONLY, 0);
  }
  // A dup2 of a descriptor onto itself clears its close-on-exec flag (POSIX, posix_spawn).
  for (const int fd : pass) posix_spawn_file_actions_adddup2(&actions, fd, fd);
  if (!spec.cwd.empty()) posix_spawn_file_actions_addchdir_np(&actions, spec.cwd.c_str());
  sigset_t none, defaults;
  sigemptyset(&none);
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  sigaddset(&defaults, SIGTERM);
  sigaddset(&defaults, SIGINT);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  int pid = -1;
  const int code = ::posix_spawnp(&pid, argv[0].c_str(), &actions, &attributes,
                                  pointers(argv).data(), pointers(env).data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (code != 0) return fail(io_error("start", spec.argv[0], code));
  return pid;
}

result<subprocess_result> run_subprocess(const subprocess_spec& spec, const cancellation* stop) {
  auto out = make_pipe();
  auto err = make_pipe();
  if (!out || !err) return fail(out ? err.error() : out.error());
  const auto pid =
      spawn_subprocess(spec, -1, spec.stdout_fd.value_or(out->write.get()), err->write.get());
  if (!pid) return fail(pid.error());
  out->write.reset();
  err->write.reset();
  const unique_fd process{pidfd_open(*pid)};
  subprocess_result answer;
  const auto end = steady_clock::now() + spec.deadline;
  bool out_open = true;
  bool err_open = true;
  bool alive = true;
  while (alive || out_open || err_open) {
    std::array<pollfd, 4> fds{{{out_open ? out->read.get() : -1, POLLIN, 0},
                               {err_open ? err->read.get() : -1, POLLIN, 0},
                               {alive ? process.get() : -1, POLLIN, 0},
                               {stop && alive ? stop->fd() : -1, POLLIN, 0}}};
    const auto left = std::chrono::duration_cast<milliseconds>(end - steady_clock::now()).count();
    // What a dead process's children still hold open is not waited for longer than a moment.
    const auto wait = alive ? std::clamp<std::int64_t>(left, 0, 1000) : 100;
    const int n = ::poll(fds.data(), fds.size(), static_cast<int>(wait));
    if (n < 0 && errno != EINTR) break;
    if (!alive && n == 0) break;
    if (fds[0].revents != 0) out_open = drain(out->read.get(), answer.out, spec.output_bytes_max);
    if (fds[1].revents != 0) err_open = drain(err->read.get(), answer.err, spec.output_bytes_max);
    if (fds[2].revents != 0) alive = false;
    const bool cancel = fds[3].revents != 0;
    if (alive && (cancel || steady_clock::now() >= end)) {
      (cancel ? answer.cancelled : answer.timed_out) = true;
      ::kill(-*pid, SIGKILL);
      siginfo_t unused{};
      ::waitid(P_PIDFD, static_cast<id_t>(process.get()), &unused, WEXITED | WNOWAIT);
      alive = false;
    }
  }
  ::kill(-*pid, SIGKILL);  // Whatever it started and left behind; the unreaped leader holds the id.
  int status = 0;
  while (::waitpid(*pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status)) answer.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) answer.signal = WTERMSIG(status);
  return answer;
}

}  // namespace ntrace
