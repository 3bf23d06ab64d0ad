#pragma once
// Growing, jittered waits between retries.
#include "config/clock.hpp"
#include "config/random.hpp"

namespace ntrace {

/// wait n = uniform(0, min(max, min · 2^n)), "full jitter", so that a fleet does not retry in step.
struct backoff_policy {
  milliseconds min{1000};
  milliseconds max{300'000};
};

/// The wait before retry number `retry` (0 is the first). Never above policy.max, never negative.
milliseconds backoff_wait(const backoff_policy& policy, unsigned retry, random_source& random);

}  // namespace ntrace
