#pragma once
// A recorded incident of `ntrace chaos` as a plan for the simulator.
#include <nlohmann/json.hpp>

#include "tests/sim/fault_plan.hpp"

namespace ntrace::sim {

/// The faults of chaos::run()'s figures as the simulator has them, in the same order and for as
/// long, their moments brought into `phase`. Kinds that it has no like of (floods, slow links) are
/// left out.
std::vector<fault> plan_of(const nlohmann::json& figures, milliseconds phase);

}  // namespace ntrace::sim
