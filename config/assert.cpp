#include "config/assert.hpp"

#include <string>

#include "config/gauges.hpp"

namespace ntrace {

void fail_assertion(const char* file, int line, const char* fact, const char* why) {
  ++gauges::value("assertions_failed");
  std::string place{file};
  place = place.substr(place.rfind('/') + 1);  // rfind gives npos, and so 0, without a slash.
  throw assertion_failed{"defect at " + place + ":" + std::to_string(line) + ": " + why + " (" +
                         fact + ")"};
}

}  // namespace ntrace
