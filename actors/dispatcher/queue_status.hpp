#pragma once
// What the queue tells people of itself.
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "config/clock.hpp"
#include "config/outage.hpp"

namespace ntrace::dispatcher {

struct queue_status {
  /// A connection of a runner, or of a consumer of the old protocol.
  struct runner {
    std::uint64_t session = 0;
    std::string name;
    std::uint64_t workers = 0, free = 0;
  };
  struct lease {
    std::string run;
    std::string runner;  ///< Empty while its runner is away.
    std::uint64_t token = 0, attempt = 0;
    milliseconds expires_in{0};
  };
  /// A host that runs wait for.
  struct host {
    std::string name;
    outage_cause cause = outage_cause::silent;
    std::int64_t since_ms = 0;  ///< Wall clock, of the run that waits longest.
    std::uint64_t runs = 0;
    milliseconds next_try_in{0};
  };
  bool is_draining = false;
  std::size_t waiting = 0, open = 0;  ///< Runs.
  std::uint64_t pushes_refused = 0, refusals_not_recorded = 0;
  std::vector<runner> runners;
  std::vector<lease> leases;
  std::vector<host> outages;
};

/// As `status` answers it.
nlohmann::json to_json(const queue_status& s);

}  // namespace ntrace::dispatcher
