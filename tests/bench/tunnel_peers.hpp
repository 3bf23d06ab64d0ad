#pragma once
// What `ntrace bench tunnel` runs: a private sshd, a target behind it, and tunnels as processes.
#include <netinet/in.h>

#include <functional>
#include <set>
#include <thread>

#include "config/cancellation.hpp"
#include "config/clock.hpp"
#include "tests/bench/bench.hpp"
#include "tests/support/free_port.hpp"
#include "tests/support/sshd_setup.hpp"

namespace ntrace::bench {

/// Moves the calling thread, and what it starts, into a network namespace of its own with a
/// loopback; false without the right to.
bool enter_own_network();
/// Drops, or lets through again, all that goes to and from the port; only in our own network.
bool set_black_hole(int port, bool on);

using test::free_port;
/// Waits until somebody takes connections there.
bool wait_for_port(int port, milliseconds deadline);
/// A blocking connection with TCP_NODELAY and reads bounded by `patience`; -1 without one.
unique_fd dial_port(int port, milliseconds patience);

/// A process of ours, ended with its group when it goes.
class process {
public:
  process() = default;
  process(std::vector<std::string> argv, std::vector<std::string> env, const std::string& log);
  process(process&& other) noexcept : pid_{std::exchange(other.pid_, -1)} {}
  process& operator=(process&& other) noexcept;
  ~process() { stop(); }
  void stop();
  int pid() const { return pid_; }
  /// User and system time of it and its living descendants, and their resident memory.
  milliseconds cpu() const;
  std::size_t memory_bytes() const;
  /// It and its descendants.
  std::set<int> all() const;

private:
  int pid_ = -1;
};

/// Behind the sshd. The first byte of a connection says what it does: e echoes; s reads as many
/// bytes as the next eight say and answers k; g sends as many.
class target_server {
public:
  target_server();
  ~target_server();
  int port() const { return port_; }

private:
  void run();
  int port_;
  unique_fd listener_;
  cancellation stop_;
  std::thread thread_;
};

class private_sshd {
public:
  /// Its files in `folder`; lets its client reach `target` only.
  private_sshd(const std::string& folder, int target);
  result<void> prepare();
  bool start();
  /// It and all sessions at once.
  void kill_all();
  /// The processes of its sessions.
  std::set<int> sessions() const;
  const test::sshd_setup& setup() const { return setup_; }
  milliseconds cpu() const { return process_.cpu(); }

private:
  test::sshd_setup setup_;
  process process_;
};

struct tunnel_kind {
  std::string name;
  std::function<process(int listen)> start;
  bool is_ours = false;
  bool only_throughput = false;
};

/// Ours, and autossh with ssh at its best settings where it is installed.
std::vector<tunnel_kind> tunnel_kinds(const test::sshd_setup& to,
                                      std::vector<std::string>& missing);

nlohmann::json tunnel_ratios(const nlohmann::json& figures);

}  // namespace ntrace::bench
