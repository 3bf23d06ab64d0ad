#pragma once
// The history that a journal tells of itself, as facts for the checker: what was committed, in
// order, and what a dispatcher would go on with.
#include <string>
#include <vector>

#include "tests/support/invariants.hpp"

namespace ntrace::test {

/// `path`: a journal that nobody writes. The facts end with `recovered`, so that what the tables
/// hold is held against what the events say.
result<std::vector<fact>> journal_history(const std::string& path);

}  // namespace ntrace::test
