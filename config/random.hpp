#pragma once
// The one source of randomness: seeded, so that a printed seed repeats everything.
#include <cstdint>

namespace ntrace {

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): small,
/// the same numbers on every platform. Not for secrets.
class random_source {
public:
  explicit random_source(std::uint64_t seed) : state_{seed} {}
  /// 64 uniformly distributed bits.
  std::uint64_t next() noexcept;
  /// Uniform in [0, bound); 0 when bound is 0.
  std::uint64_t below(std::uint64_t bound) noexcept;

private:
  std::uint64_t state_;
};

/// A seed from the kernel (getrandom(2)).
std::uint64_t random_seed();

}  // namespace ntrace
