#include "actors/runner/exec_outcome.hpp"

#include <nlohmann/json.hpp>

namespace ntrace::runner {

step_outcome exec_outcome(const zone::exec_end& e, ec on_failure, const std::string& what) {
  step_outcome out;
  out.facts = domain::document{{{"exit_code", e.exit_code}, {"signal", e.signal}}};
  const auto failed = [&](ec code, std::string message) {
    out.failed = {code, std::move(message), {}};
  };
  if (e.lease_over)
    failed(ec::stale_lease, "the lease was over, and the zone ended, while " + what + " ran");
  else if (e.init_died)
    failed(ec::init_died, "the zone's init ended while " + what + " ran");
  else if (e.cancelled)
    failed(ec::cancelled, what + " was cancelled");
  else if (e.timed_out)
    failed(ec::timed_out, what + " ran into its deadline");
  else if (e.output_limit)
    failed(ec::output_limit, what + " wrote more than output_hard_bytes");
  else if (e.disk_full)
    failed(ec::disk_full, what + " wrote more than zone_disk_bytes");
  else if (e.no_reserve)
    failed(ec::io, what + " was ended, for the disk of the runner's data folder is nearly full");
  else if (e.oom && !e.ok())
    failed(ec::out_of_memory, what + " hit the zone's memory limit");
  else if (!e.ok())
    failed(on_failure,
           what + (e.signal != 0 ? " was ended by signal " + std::to_string(e.signal)
                                 : " ended with status " + std::to_string(e.exit_code)));
  return out;
}

}  // namespace ntrace::runner
