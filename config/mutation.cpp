#include "config/mutation.hpp"

#ifdef NTRACE_CRASH_POINTS
#include <cstdlib>

namespace ntrace {

mutation planted = [] {
  const char* text = std::getenv("NTRACE_PLANT");
  return text ? static_cast<mutation>(std::atoi(text)) : mutation::none;
}();

}  // namespace ntrace
#endif
