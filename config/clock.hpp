#pragma once
// Time. Machines are given a steady time_point; wall time is for people only.
#include <chrono>
#include <cstdint>
#include <string>

namespace ntrace {

using std::chrono::milliseconds;
using steady_clock = std::chrono::steady_clock;
using time_point = steady_clock::time_point;

/// Milliseconds since 1970 of the wall clock; decides nothing.
inline std::int64_t wall_ms() {
  return std::chrono::duration_cast<milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// "2026-01-31T12:00:00.123Z".
std::string format_wall(std::int64_t ms);

}  // namespace ntrace
