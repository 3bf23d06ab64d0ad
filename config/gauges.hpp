#pragma once
// Counters and gauges of the process: every bound, drop, retry and refusal has one.
#include <atomic>
#include <cstdint>
#include <map>
#include <string>

namespace ntrace::gauges {

/// The value named `name` (`<component>_<thing>`), made on first use and kept for the process's
/// life. Thread-safe; keep the reference instead of looking it up in a hot loop.
std::atomic<std::int64_t>& value(const std::string& name);

/// All values by name, as they are now.
std::map<std::string, std::int64_t> snapshot();

}  // namespace ntrace::gauges
