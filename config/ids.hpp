#pragma once
// Identifiers: ULIDs for runs, version 4 UUIDs for zones.
#include <cstdint>
#include <string>
#include <string_view>

#include "config/random.hpp"

namespace ntrace {

/// A ULID of `at_ms` (milliseconds since 1970, 48 bits) and 80 random bits: 26 characters of
/// Crockford's base 32, sorted by time (github.com/ulid/spec).
std::string make_ulid(std::int64_t at_ms, random_source& random);
bool is_ulid(std::string_view text) noexcept;
/// The least ULID of that time.
std::string first_ulid(std::int64_t at_ms);

/// ULIDs that rise, also within a millisecond and when the clock steps back ("Monotonicity" of the
/// specification): so the order of ids is the order of their making, and an index of them grows at
/// its end.
class ulid_source {
public:
  std::string next(std::int64_t at_ms, random_source& random);

private:
  std::string last_;
  std::int64_t last_ms_ = -1;
};

/// A random UUID, version 4 (RFC 9562, section 5.4), in lower case.
std::string make_uuid(random_source& random);
/// 8-4-4-4-12 lower or upper case hexadecimal digits.
bool is_uuid(std::string_view text) noexcept;

}  // namespace ntrace
