#pragma once
// Chaos: a whole fleet of real processes on networks of its own, under a seeded killer, and the
// judgement of what it did. For `ntrace chaos`; docs/chaos.md.
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "config/clock.hpp"
#include "config/result.hpp"

namespace ntrace::chaos {

struct chaos_options {
  milliseconds lasts{180'000};  ///< Of the faults; then all is healed and judged.
  milliseconds heals{180'000};  ///< The longest until everything has ended then.
  std::uint64_t seed = 1;
  std::string folder;               ///< An empty one for everything that the run writes.
  std::string program;              ///< The ntrace to try.
  std::vector<std::string> only{};  ///< Kinds of faults; empty: all. ec::bad_argument when unknown.
  int plant = 0;  ///< A bug of config/mutation.hpp, where the program is built for tests.
  std::function<bool()> is_cancelled{};  ///< Asked now and then; true ends the run: ec::cancelled.
  std::function<void(const std::string&)> progress{};  ///< A line now and then; may be null.
};

/// As root. It leaves no process, mount, cgroup or network behind, and touches none that it has not
/// made. JSON:
/// {"seed", "lasted_ms", "faults": [{"kind", "target", "at_ms", "lasted_ms", "recovered_ms"}…],
///  "kinds": [{"kind", "count", "median_ms", "p99_ms", "worst_ms"}…], "pushes_acknowledged",
///  "pushes_refused", "verdicts", "restarts", "retries", "outages" (attempts that met one),
///  "repositories_seen_in_zones", "all_done_ms", "processes": [{"name", "rss_kib", "descriptors",
///  "threads", "zombies", "disk_kib" (each [median of the first quarter, of the last, most])}…],
///  "met": {invariant: times}, "violations": [{"invariant", "what"}…], "skipped": [{"kind",
///  "why"}]}.
/// ec::zone_unsupported, ec::io and others when the fleet cannot be set up at all.
result<nlohmann::json> run(const chaos_options& options);

/// Takes away a disk that run() has mounted; nothing when there is none.
void unmount(const std::string& path);

/// The figures as text for people, and as a page of its own.
std::string report_text(const nlohmann::json& figures);
std::string report_html(const nlohmann::json& figures);

}  // namespace ntrace::chaos
