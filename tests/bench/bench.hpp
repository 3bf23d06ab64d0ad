#pragma once
// Benchmarks: ours and the peer's in one run on one machine, so that their ratio means something.
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "config/result.hpp"

namespace ntrace::bench {

/// Sorted times in microseconds.
struct sample {
  std::vector<double> us;
  /// `share` 0.5 is the median, 0.99 the p99; 0 when there is none.
  double at(double share) const {
    if (us.empty()) return 0;
    const auto last = static_cast<double>(us.size() - 1);
    return us[static_cast<std::size_t>(std::llround(share * last))];
  }
};

/// Restart of a failed child, failure to first message served, at 1, 100 and 10,000 children,
/// beside Erlang's supervisor and gen_server. `restarts`: measured ones per size. JSON:
/// {"rows": [{"children", "side", "median_us", "p99_us", "spawn_us", "bytes_per_child"}…],
///  "ratios": [{"children", "median", "p99"}…], "peer": "erlang 25" or why there is none}.
result<nlohmann::json> supervision(unsigned restarts);

/// The figures as a table for people.
std::string supervision_table(const nlohmann::json& figures);

/// Durable pushes per second with 1, 16 and 64 clients, each measured for `time`, by turns with
/// beanstalkd, RabbitMQ and PostgreSQL where they are installed, or alone; all on the disk of the
/// folder `parent`. JSON:
/// {"fdatasync_per_second", "rows": [{"broker", "durable_by", "clients", "per_second", "p50_us",
///  "p99_us"}…], "ratios": [{"clients", "peer", "ntrace_to_peer"}…], "missing": [names]}.
/// Of the brokers, "journal" is the journal alone, with as many pushes in each commit; "append"
/// syncs a file for each push and does nothing else, and "echo" keeps nothing.
result<nlohmann::json> push(const std::string& parent, std::chrono::milliseconds time,
                            bool with_peers);
std::string push_table(const nlohmann::json& figures);

/// Our tunnel beside autossh with ssh, on one sshd and under the same faults, each caused `rounds`
/// times; files in a folder below `parent`. JSON: {"seed", "rounds", "faults": [{"fault", "tunnel",
/// "median_ms", "max_ms", "lost", "lost_with_replay", "raw_ms"}…], "steady": [{"tunnel", "what",
/// "median", "raw"}…], "ratios": [{"what", "ntrace", "peer", "ratio", "goal", "met"}…], "missing"}.
/// As root it runs in a network namespace of its own; else without the black holes.
result<nlohmann::json> tunnel(const std::string& parent, unsigned rounds, std::uint64_t seed);
std::string tunnel_table(const nlohmann::json& figures);

/// From a used zone to a fresh, proved one in which a program has run, `rounds` times beside runc,
/// crun and bubblewrap where they work; then `rollbacks` of one zone, and `zones` at once. As root.
/// JSON:
/// {"rounds", "rows": [{"side", "median_ms", "p99_ms", "raw_ms"}…], "ratios": [{"peer", "ratio",
/// "goal", "met"}…], "many": {"rollbacks", "first", "last", "before", "after", "most_disk_bytes"},
/// "at_once": {"zones", "all_used_ms"}, "missing": [{"side", "why"}…]}.
result<nlohmann::json> zone(const std::string& parent, unsigned rounds, unsigned rollbacks,
                            unsigned zones);
std::string zone_table(const nlohmann::json& figures);

}  // namespace ntrace::bench
