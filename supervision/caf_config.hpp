#pragma once
// CAF as all of ntrace uses it.
#include <caf/actor_system_config.hpp>

namespace ntrace::supervision {

/// The sharing scheduler: stealing polls, which costs idle CPU and latency. Peers connect only
/// where they were told to. No configuration file of its own.
struct caf_config : caf::actor_system_config {
  /// One worker, because a hand-over between two costs more than what our actors compute: all that
  /// blocks or takes long has a thread of its own.
  explicit caf_config(std::size_t workers = 1);
};

}  // namespace ntrace::supervision
