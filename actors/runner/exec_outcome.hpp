#pragma once
// What a fetched source, and the end of a program in a zone, mean for their step. Pure.
#include "actors/runner/attempt_fsm.hpp"
#include "actors/runner/bundle.hpp"
#include "actors/zone/zone_types.hpp"

namespace ntrace::runner {

/// `what` is the program for people; `on_failure` the code of its own failure.
step_outcome exec_outcome(const zone::exec_end& e, ec on_failure, const std::string& what);

/// What the attempt knows of its source from now on.
step_outcome fetch_outcome(const std::string& source, const bundle& got);

}  // namespace ntrace::runner
