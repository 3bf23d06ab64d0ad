#pragma once
// Who is enrolled, on disk: <data>/workers.json. Blocks.
#include "actors/runner/zone_pool_fsm.hpp"
#include "actors/zone/linux/privileged_helper.hpp"

namespace ntrace::runner {

/// The enrolled workers; none when there is no file yet. ec::io for a file that is not ours.
result<std::vector<worker>> load_workers(const std::string& data);
result<void> save_workers(const std::string& data, const std::vector<worker>& workers);

/// Adds a zone to those enrolled, once it is known to exist with a snapshot clean:
/// ec::no_such_zone, ec::no_clean.
result<void> enroll_on_disk(zone::privileged_helper& helper, const std::string& data,
                            const std::string& uuid, std::int64_t at_ms,
                            std::vector<worker> enrolled);

/// Makes and enrols zones until there are `wanted` workers.
result<void> make_workers(zone::privileged_helper& helper, const std::string& data,
                          std::size_t wanted, std::vector<worker>& workers);

}  // namespace ntrace::runner
