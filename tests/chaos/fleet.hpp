#pragma once
// The fleet that chaos is brought to: a dispatcher with an sshd on node 0, runners on the others,
// each with a small disk and a clock of its own; behind them the forge, which has all sources.
#include <memory>
#include <string>
#include <vector>

#include "tests/chaos/block_disk.hpp"
#include "tests/chaos/chaos.hpp"
#include "tests/chaos/forge.hpp"
#include "tests/chaos/process.hpp"
#include "tests/chaos/star_network.hpp"
#include "tests/support/sshd_setup.hpp"

namespace ntrace::chaos {

class fleet {
public:
  static constexpr std::size_t runners = 3, nodes = runners + 1, workers = 2;
  static constexpr std::size_t forge_node = nodes, places = nodes + 1;  ///< Where faults strike.
  static constexpr milliseconds lease{3'000};
  static constexpr std::uint64_t attempts_max = 100;  ///< As the dispatcher is told.

  static result<std::unique_ptr<fleet>> make(const chaos_options& options);
  ~fleet();
  fleet(const fleet&) = delete;
  fleet& operator=(const fleet&) = delete;

  const star_network& network() const { return *network_; }
  /// Of node 0 the dispatcher, of the others the runner, of the last the forge.
  process& server(std::size_t node) {
    return node == forge_node ? forge_->server() : *servers_.at(node);
  }
  forge& sources() { return *forge_; }
  process& sshd() { return *sshd_; }
  std::string data(std::size_t node) const;
  std::string disk(std::size_t node) const;  ///< Where that is mounted.
  /// The dispatcher's, when it has one that can fail; else it is in memory as the others are.
  block_disk dispatcher_disk() const { return {folder_ + "/node0.ext4", disk(0)}; }
  /// Why it has none; empty when it has.
  const std::string& no_dispatcher_disk() const { return no_dispatcher_disk_; }

  /// One call of the node's server, within 2 s.
  result<nlohmann::json> ask(std::size_t node, const char* method,
                             const nlohmann::json& args = nlohmann::json::array()) const;
  /// A second server of the node's role on the same folder, with ports of its own: how it ended.
  result<subprocess_result> try_second(std::size_t node, milliseconds deadline) const;
  /// A command of its operators' shell.
  result<nlohmann::json> shell(std::size_t node, std::vector<std::string> words) const;
  /// It serves; a runner is linked, all of its workers are proved; every actor runs. The forge:
  /// it can be reached, and no run waits for it any more.
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
  result<void> start_all();
  bool is_forge_well() const;
  std::vector<std::string> words_of(std::size_t node) const;
  /// What the server on `node` and a second one on its folder have in common.
  std::vector<std::string> words_on(std::size_t node, const char* dispatcher) const;

  std::string folder_, program_, faketime_, no_dispatcher_disk_;
  int plant_;
  std::unique_ptr<star_network> network_;
  test::sshd_setup ssh_{};
  std::vector<std::unique_ptr<process>> servers_;
  std::unique_ptr<process> sshd_;
  std::unique_ptr<forge> forge_;
};

}  // namespace ntrace::chaos
