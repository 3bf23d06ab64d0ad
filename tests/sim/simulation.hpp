#pragma once
// One run of the whole system in virtual time, many of them, and the shrinking of one that fails.
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/fault_plan.hpp"
#include "tests/sim/world.hpp"

namespace ntrace::sim {

struct run_options {
  std::uint64_t seed = 1;
  /// Only these of the plan's faults; none: all of them.
  std::optional<std::vector<unsigned>> faults;
  /// In place of the plan that the seed draws; targets are taken modulo the runners that it has.
  std::optional<std::vector<fault>> plan;
  unsigned pushes_max = ~0u;  ///< Fewer than the seed would have.
  bool keeps_history = false;
};
struct run_outcome {
  std::vector<test::violation> violations;
  std::vector<fault> faults;  ///< Those that were there.
  unsigned pushes = 0;
  std::uint64_t steps = 0;
  std::string digest;  ///< SHA-256 of the history; the same for a seed on every compiler.
  coverage seen;       ///< Faults, transitions and, as "invariant.S1", preconditions.
  std::vector<std::string> history;
};
run_outcome simulate(const run_options& options);
inline constexpr milliseconds fault_phase{60'000};  ///< Faults come within it; then all is to heal.

/// The smallest faults and pushes that still break the same invariant, by bisection, then one by
/// one. At most `tries` runs.
run_options shrink(const run_options& failing, const std::string& invariant, unsigned tries = 200);

struct campaign {
  std::uint64_t runs = 0, steps = 0;
  std::uint64_t failed = 0;
  std::uint64_t lost = 0;  ///< Their process died: a defect, as bad as a violation.
  std::optional<std::uint64_t> first_failing;  ///< Its seed.
  coverage seen;
};
/// Runs seeds [seed, seed + runs), or until `stop_at_first` fails, in this process.
campaign simulate_many(std::uint64_t seed, std::uint64_t runs, bool stop_at_first = false);
/// The same on `processes` forked ones.
campaign simulate_forked(std::uint64_t seed, std::uint64_t runs, unsigned processes);

/// What 10,000 runs must have met; returns what is missing.
std::vector<std::string> missing_coverage(const coverage& seen);

}  // namespace ntrace::sim
