#include "config/random.hpp"

#include <sys/random.h>

#include <chrono>

namespace ntrace {

std::uint64_t random_source::next() noexcept {
  std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::uint64_t random_source::below(std::uint64_t bound) noexcept {
  // The bias of the remainder is below 2^-32 for the small bounds that we use.
  return bound == 0 ? 0 : next() % bound;
}

std::uint64_t random_seed() {
  std::uint64_t seed = 0;
  if (getrandom(&seed, sizeof seed, 0) == static_cast<ssize_t>(sizeof seed)) return seed;
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

}  // namespace ntrace
