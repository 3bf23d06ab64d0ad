#pragma once
// The journal without a port or clients: what is left when a push costs nothing but its commit.
#include "tests/bench/push_load.hpp"

namespace ntrace::bench {

/// Commits of `group` pushes each, one after the other, into a new journal below `dir`: pushes per
/// second, and how long a commit took. Blocks for a warm-up and then `time`.
result<load_figures> journal_rate(const std::string& dir, unsigned group, milliseconds time);

}  // namespace ntrace::bench
