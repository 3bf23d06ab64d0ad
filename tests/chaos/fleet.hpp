#pragma once
// The fleet that chaos is brought to: a dispatcher with an sshd on node 0, runners on the others,
// each with a small disk and a clock of its own.
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "config/clock.hpp"
#include "config/subprocess.hpp"
#include "tests/chaos/block_disk.hpp"
#include "tests/chaos/chaos.hpp"
#include "tests/chaos/star_network.hpp"
#include "tests/support/sshd_setup.hpp"

namespace ntrace::chaos {

/// A program that is started again and again on one node.
class process {
public:
  process(std::string name, std::string network, std::vector<std::string> argv,
          std::vector<std::string> env, std::string log)
      : name_{std::move(name)},
        network_{std::move(network)},
        argv_{std::move(argv)},
        env_{std::move(env)},
        log_{std::move(log)} {}
  ~process() { kill(); }
  process(const process&) = delete;
  process& operator=(const process&) = delete;

  result<void> start();
  void signal(int number) const;
  void kill();
  /// SIGTERM; its exit code, or -1 when it does not end in time.
  int stop(milliseconds deadline);
  /// The end that nobody caused; empty while it lives.
  std::string died();
  /// Its pid; -1 when it does not run.
  int pid() const { return pid_; }
  bool lives() const;
  /// Runs other words in its network and environment, to their end or the deadline.
  result<subprocess_result> run_beside(const std::vector<std::string>& argv,
                                       milliseconds deadline) const;
  const std::string& name() const { return name_; }
  const std::string& log() const { return log_; }

private:
  std::string name_, network_;
  std::vector<std::string> argv_, env_;
  std::string log_;
  std::atomic<int> pid_{-1};  ///< One thread at a time starts and ends it.
};

class fleet {
public:
  static constexpr std::size_t runners = 3, nodes = runners + 1, workers = 2;

  static result<std::unique_ptr<fleet>> make(const chaos_options& options);
  ~fleet();
  fleet(const fleet&) = delete;
  fleet& operator=(const fleet&) = delete;

  const star_network& network() const { return *network_; }
  /// Of node 0 the dispatcher, of the others the runner.
  process& server(std::size_t node) { return *servers_.at(node); }
  process& sshd() { return *sshd_; }
  std::string data(std::size_t node) const;
  std::string disk(std::size_t node) const;  ///< Where that is mounted.
  /// The dispatcher's, when it has one that can fail; else it is in memory as the others are.
  block_disk dispatcher_disk() const { return {folder_ + "/node0.ext4", disk(0)}; }
  /// Why it has none; empty when it has.
  const std::string& no_dispatcher_disk() const { return no_dispatcher_disk_; }
  /// What pushes are made of: one whose script succeeds, and one whose script fails.
  std::string package() const { return folder_ + "/package"; }
  std::string failing_package() const { return folder_ + "/failing"; }

  /// One call of the node's server, within 2 s.
  result<nlohmann::json> ask(std::size_t node, const char* method,
                             const nlohmann::json& args = nlohmann::json::array()) const;
  /// A second server of the node's role on the same folder, with ports of its own: how it ended.
  result<subprocess_result> try_second(std::size_t node, milliseconds deadline) const;
  /// A command of its operators' shell.
  result<nlohmann::json> shell(std::size_t node, std::vector<std::string> words) const;
  /// It serves; a runner is linked, all of its workers are proved; every actor runs.
  bool is_well(std::size_t node) const;
  /// Moves the wall clock of a node to so many seconds from the true one. False without
  /// libfaketime.
  bool set_clock(std::size_t node, int seconds) const;
  bool has_clocks() const { return !faketime_.empty(); }
  /// Pids of the node's zone inits.
  std::vector<int> zone_inits(std::size_t node) const;
  /// The privileged helper of the node's runner; -1 when there is none.
  int helper(std::size_t node) const;

private:
  explicit fleet(const chaos_options& options)
      : folder_{options.folder}, program_{options.program}, plant_{options.plant} {}
  result<void> set_up();
  result<void> make_certificates() const;
  std::vector<std::string> words_of(std::size_t node) const;
  /// What the server on `node` and a second one on its folder have in common.
  std::vector<std::string> words_on(std::size_t node, const char* dispatcher) const;

  std::string folder_, program_, faketime_, no_dispatcher_disk_;
  int plant_;
  std::unique_ptr<star_network> network_;
  test::sshd_setup ssh_{};
  std::vector<std::unique_ptr<process>> servers_;
  std::unique_ptr<process> sshd_;
};

}  // namespace ntrace::chaos
