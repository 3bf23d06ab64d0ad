#include "config/backoff.hpp"

#include <algorithm>

namespace ntrace {

milliseconds backoff_wait(const backoff_policy& policy, unsigned retry, random_source& random) {
  const auto doublings = std::min(retry, 40u);  // 2^40 ms is 34 years: no overflow below it.
  const auto top = std::min<std::int64_t>(
      policy.max.count(), std::max<std::int64_t>(policy.min.count(), 0) << doublings);
  return milliseconds{static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(top) + 1))};
}

}  // namespace ntrace
