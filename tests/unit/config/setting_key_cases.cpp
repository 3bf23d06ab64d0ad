// Compiled by ctest, case by case: a setting that there is not is an error of the compiler.
#include "config/settings.hpp"

std::int64_t ask(const ntrace::settings& s) {
#if defined(NTRACE_UNKNOWN_KEY)
  return s.number("wrokers");
#elif defined(NTRACE_OTHER_TYPE)
  return s.number("data");
#else
  return s.number("workers");
#endif
}
