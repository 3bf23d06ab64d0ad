#pragma once
// One real profile of a program that does nothing but compute, taken as attempts take theirs.
#include <cstdint>
#include <string>

#include "actors/zone/zone.hpp"

namespace ntrace::tools {

struct seen_sample {
  std::uint64_t samples = 0;
  std::string event;        ///< "cpu-clock:u"
  std::string hottest;      ///< The frame with most samples of its own.
  bool names_spin = false;  ///< The function that computes has its name in the stacks.
};

/// Runs it for a moment in `zone`, which is up, and folds what perf saw; perf's files lie below
/// `scratch` meanwhile. ec::profile_failed, also when there was no sample at all.
result<seen_sample> take_one_sample(zone::zone& zone, const std::string& scratch);

/// The command that mostly helps when take_one_sample fails.
std::string sampling_advice();

}  // namespace ntrace::tools
