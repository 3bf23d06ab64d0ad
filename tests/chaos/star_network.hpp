#pragma once
// Machines on one: network namespaces around a bridge, whose links are cut, made lossy and slow.
// All of it lies in a mount namespace of this process, and is gone with it.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "config/result.hpp"

namespace ntrace::chaos {

class star_network {
public:
  /// `nodes` namespaces besides the hub's; this process must have a mount namespace of its own.
  static result<std::unique_ptr<star_network>> make(std::size_t nodes);
  ~star_network();
  star_network(const star_network&) = delete;
  star_network& operator=(const star_network&) = delete;

  std::string name(std::size_t node) const;      ///< Of its namespace, in /run/netns.
  static std::string address(std::size_t node);  ///< In the star's net.
  /// Calls it on a thread that lives in the node's namespace, and waits for it.
  void inside(std::size_t node, const std::function<void()>& what) const;
  /// The same for a thread that stays: makes the calling thread one of the node.
  result<void> enter(std::size_t node) const;

  result<void> set_link(std::size_t node, bool is_up) const;
  /// Drops that share of what reaches the node from others.
  result<void> lose(std::size_t node, double share) const;
  result<void> slow_down(std::size_t node, const std::string& rate) const;
  /// Takes lose() and slow_down() back.
  result<void> heal(std::size_t node) const;

private:
  explicit star_network(std::size_t nodes) : nodes_{nodes} {}
  result<void> set_up() const;
  std::size_t nodes_;
};

/// Runs a program to its end; ec::io with its words when it fails.
result<std::string> command(std::vector<std::string> argv);

}  // namespace ntrace::chaos
