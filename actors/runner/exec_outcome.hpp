#pragma once
// What the end of a program in a zone means for its step. Pure.
#include "actors/runner/attempt_fsm.hpp"
#include "actors/zone/zone_types.hpp"

namespace ntrace::runner {

/// `what` is the program for people; `on_failure` the code of its own failure.
step_outcome exec_outcome(const zone::exec_end& e, ec on_failure, const std::string& what);

}  // namespace ntrace::runner
