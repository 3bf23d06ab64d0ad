#pragma once
#include <cstdint>

namespace ntrace {

/// A connection to a port of ours; its own number, never reused.
using peer_id = std::uint64_t;

}  // namespace ntrace
