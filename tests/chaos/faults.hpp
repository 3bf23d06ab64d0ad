#pragma once
// What can be done to a fleet: docs/chaos.md, "Faults".
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "config/random.hpp"
#include "tests/chaos/fleet.hpp"

namespace ntrace::chaos {

/// A rule that the fleet broke: its name, and how.
using broken_rule = std::pair<std::string, std::string>;

/// The target of a fault, and the chance that decides its details.
struct scene {
  fleet& all;
  std::size_t node;
  random_source& random;
  std::vector<broken_rule> broken{};  ///< What the fleet did in answer that it never may.
};

struct kind_of_fault {
  const char* name;
  std::vector<std::size_t> on;  ///< Nodes.
  milliseconds least, most;     ///< How long it lasts before it is healed.
  std::function<result<void>(scene&)> strike;
  std::function<result<void>(scene&)> heal;  ///< Null: nothing is to be healed.
  /// What the machine lacks for it; empty, or null: nothing.
  std::function<std::string(const fleet&)> lacks{};
};

const std::vector<kind_of_fault>& kinds_of_faults();

}  // namespace ntrace::chaos
