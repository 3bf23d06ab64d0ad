#pragma once
// A real OpenSSH server of the test's own: its port, host key, keys and log; no other file of the
// machine is touched but /run/sshd, which sshd insists on.
#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "net/known_hosts.hpp"
#include "net/ssh_key.hpp"
#include "net/ssh_session.hpp"
#include "tests/support/program.hpp"

namespace ntrace::test {

class real_sshd {
public:
  /// `target` is what the key may reach. More of sshd_config(5) in `config`.
  real_sshd(const scratch& dir, host_port target, std::string config = {},
            std::vector<net::reverse_forward> reverse = {})
      : dir_{dir / "ssh"},
        target_{std::move(target)},
        config_{std::move(config)},
        reverse_{std::move(reverse)} {
    ok(make_folders(dir_));
    ok(net::write_new_key(dir_ + "/host_key", "host"));
    client_ = ok(net::write_new_key(dir_ + "/key", "runner"));
    allow_key();
    pin();
    start();
  }
  ~real_sshd() { stop(); }
  real_sshd(const real_sshd&) = delete;
  real_sshd& operator=(const real_sshd&) = delete;

  int port() const { return port_; }
  std::string key_file() const { return dir_ + "/key"; }
  std::string known_hosts_file() const { return dir_ + "/known_hosts"; }
  std::string url() const { return "ssh://" + user() + "@127.0.0.1:" + std::to_string(port_); }
  std::string log() const { return read_file(dir_ + "/log").value_or(""); }
  std::string folder() const { return dir_; }
  static std::string user() { return ::getpwuid(::geteuid())->pw_name; }

  void allow_key() {
    ok(write_file_durably(dir_ + "/authorized_keys",
                          net::authorized_line(client_, target_, reverse_) + "\n", 0600));
  }
  void forbid_key() { ok(write_file_durably(dir_ + "/authorized_keys", "", 0600)); }
  /// The host key as it is now into known_hosts, alone.
  void pin() {
    ::unlink(known_hosts_file().c_str());
    ok(net::trust_host_key(known_hosts_file(), {"127.0.0.1", static_cast<std::uint16_t>(port_)},
                           ok(net::read_private_key(dir_ + "/host_key")).shown));
  }
  void replace_host_key() {
    ::unlink((dir_ + "/host_key").c_str());
    ::unlink((dir_ + "/host_key.pub").c_str());
    ok(net::write_new_key(dir_ + "/host_key", "host"));
  }

  void add_config(const std::string& line) { config_ += "\n" + line; }

  void start() {
    ::mkdir("/run/sshd", 0755);
    ok(write_file_durably(dir_ + "/config",
                          "Port " + std::to_string(port_) + "\nListenAddress 127.0.0.1\nHostKey " +
                              dir_ + "/host_key\nPidFile none\nAuthorizedKeysFile " + dir_ +
                              "/authorized_keys\nStrictModes no\nUsePAM no\nPermitRootLogin "
                              "prohibit-password\nPasswordAuthentication no\nLogLevel VERBOSE\n" +
                              config_ + "\n"));
    subprocess_spec spec;
    spec.argv = {"/usr/sbin/sshd", "-D", "-e", "-f", dir_ + "/config"};
    const unique_fd log{
        ::open((dir_ + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)};
    pid_ = ok(spawn_subprocess(spec, -1, log.get(), log.get()));
    eventually(
        milliseconds{10'000},
        [&] {
          return net::connect_tcp({"127.0.0.1", static_cast<std::uint16_t>(port_)},
                                  milliseconds{200})
              .has_value();
        },
        [&] { return this->log(); });
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
  std::string dir_;
  host_port target_;
  std::string config_;
  std::vector<net::reverse_forward> reverse_;
  net::public_key client_;
  int port_ = server::free_port();
  int pid_ = -1;
};

}  // namespace ntrace::test
