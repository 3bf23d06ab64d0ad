#pragma once
// When two pushes with one idempotency key are the same push. Pure.
#include <optional>

#include "actors/journal/journal_types.hpp"

namespace ntrace::journal {

/// A push as it was written with its key.
struct keyed_push {
  run_row run;
  /// Both are absent for a push that an older ntrace wrote, and then not compared.
  std::optional<bool> has_source;
  std::optional<std::int64_t> deadline_ms;  ///< As asked for: a requeue drops that of the run.
};

/// In what `now` asks for something else than `then`; nothing: it is the same push, sent again.
/// What a forge says beside the commit is not compared: it does not change what is run.
std::vector<push_difference> push_differences(const keyed_push& then, const insert_run& now);

}  // namespace ntrace::journal
