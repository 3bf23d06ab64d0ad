#pragma once
// The clients of `ntrace bench push`: the same loop for every broker.
#include "config/clock.hpp"
#include "tests/bench/bench.hpp"
#include "tests/bench/push_peers.hpp"

namespace ntrace::bench {

/// What `clients` connections got out of a broker, each with one request under way at a time.
struct load_figures {
  double per_second = 0;
  sample latency;  ///< Of each request, from its sending to its answer.
};

/// Before what is measured.
inline constexpr milliseconds warm_up{500};

/// Blocks for a warm-up and then `time`. An answer that refuses an item is an error.
result<load_figures> run_load(const broker_spec& to, unsigned clients, milliseconds time);

/// Durable appends of a page to a file in `dir`, one after the other: fdatasync calls per second.
result<double> sync_rate(const std::string& dir, milliseconds time);

/// Connects and greets; the request that prepares is made too.
result<void> greet_once(const broker_spec& to);

// On blocking descriptors.
bool say(int fd, std::string_view bytes);
bool hear(int fd, std::string& heard);

inline time_point steady_now() { return std::chrono::steady_clock::now(); }
/// 20 ms: how often a process that is being started or stopped is looked at.
void wait_a_moment();

}  // namespace ntrace::bench
