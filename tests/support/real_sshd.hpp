#pragma once
// A real OpenSSH server of the test's own: its port, host key, keys and log; no other file of the
// machine is touched but /run/sshd, which sshd insists on.
#include <signal.h>
#include <sys/wait.h>

#include <set>

#include "net/socket.hpp"
#include "net/ssh_keygen.hpp"
#include "tests/support/guardian.hpp"
#include "tests/support/program.hpp"
#include "tests/support/sshd_setup.hpp"

namespace ntrace::test {

class real_sshd : public sshd_setup {
public:
  real_sshd(const scratch& dir, host_port reachable, const std::string& more = {},
            std::vector<net::reverse_forward> listens = {},
            const std::string& serve_at = "127.0.0.1")
      : sshd_setup{dir / "ssh", free_port(), std::move(reachable), more, std::move(listens),
                   {},          serve_at} {
    ok(make_keys());
    start();
  }
  ~real_sshd() { stop(); }
  real_sshd(const real_sshd&) = delete;
  real_sshd& operator=(const real_sshd&) = delete;

  std::string log() const { return read_file(folder + "/log").value_or(""); }
  void replace_host_key() {
    ::unlink((folder + "/host_key").c_str());
    ::unlink((folder + "/host_key.pub").c_str());
    ok(net::write_new_key(folder + "/host_key", "host"));
  }

  void start() {
    ok(write_config());
    subprocess_spec spec;
    spec.argv = argv();
    const unique_fd out{
        ::open((folder + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)};
    pid_ = ok(spawn_guarded(spec, -1, out.get(), out.get()));
    eventually(
        milliseconds{10'000},
        [&] {
          return net::connect_tcp({address, static_cast<std::uint16_t>(port)}, milliseconds{200})
              .has_value();
        },
        [&] { return log(); });
  }
  /// The server and all its sessions.
  void stop() {
    if (pid_ <= 0) return;
    const auto children = sessions();
    ::kill(pid_, SIGCONT);
    ::kill(pid_, SIGKILL);
    for (const int child : children) ::kill(child, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  /// The processes of the sessions, their unprivileged parts included.
  std::set<int> sessions() const {
    std::set<int> out;
    for (const int pid : descendants(pid_, "sshd")) out.insert(pid);
    return out;
  }
  void signal_sessions(int signal) const {
    for (const int pid : sessions()) ::kill(pid, signal);
  }
  int pid() const { return pid_; }

private:
  int pid_ = -1;
};

}  // namespace ntrace::test
