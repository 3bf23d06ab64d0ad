#pragma once
// All randomness of a test comes from one seed, which a failure prints.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "config/random.hpp"

namespace ntrace::test {

class seeded {
public:
  seeded()
      : seed_{from_environment()},
        random{seed_},
        trace_{__FILE__, __LINE__, "repeat with NTRACE_SEED=" + std::to_string(seed_)} {}

private:
  static std::uint64_t from_environment() {
    const char* given = std::getenv("NTRACE_SEED");
    return given ? std::strtoull(given, nullptr, 10) : random_seed();
  }
  std::uint64_t seed_;

public:
  random_source random;

private:
  ::testing::ScopedTrace trace_;
};

}  // namespace ntrace::test
