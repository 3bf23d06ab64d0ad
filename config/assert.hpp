#pragma once
// Facts that only a bug of ours can make false. They are checked in every build.
#include <stdexcept>

namespace ntrace {

/// Ends the actor, port or engine whose code asserted, never the process where a supervisor can
/// help: each of them has a handler for exceptions, and its supervisor starts another.
struct assertion_failed : std::logic_error {
  using std::logic_error::logic_error;
};

/// Counts it in the gauge `assertions_failed`, and throws with the place, the fact and `why`.
[[noreturn]] void fail_assertion(const char* file, int line, const char* fact, const char* why);

}  // namespace ntrace

/// `why`: what the fact means, in words; both stand in the failure's text.
#define NTRACE_ASSERT(fact, why) \
  ((fact) ? static_cast<void>(0) : ::ntrace::fail_assertion(__FILE__, __LINE__, #fact, why))
