#pragma once
// The lines of a run's story, which the journal keeps and `why` tells.
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>

#include "actors/domain/document.hpp"
#include "actors/domain/run.hpp"

namespace ntrace::domain::story {

struct offered {
  std::string runner;
};
/// To a consumer of the old protocol.
struct handed {
  std::string consumer;
};
struct refused {
  std::string reason;
};
struct accepted {
  std::string runner;
  std::uint64_t attempts_max = 0;  ///< The limit at that time.
  std::string run_id;              ///< Of a consumer; empty: a runner of ours.
  std::string joined;              ///< How its job was told from others; empty: there was one.
};
struct started {
  std::string zone;
};
/// What an attempt says of its work.
struct step {
  document said;
};
/// An expired lease was given back.
struct revived {};
/// An attempt ended, and perhaps the run with it; or a run that nobody worked on, by its deadline.
struct ended {
  end_cause cause = end_cause::verdict;
  domain::verdict how = domain::verdict::infrastructure;
  std::string reason;
  run_state state = run_state::queued;  ///< The run's, from now on.
  std::uint64_t chunks = 0;             ///< Stored of the attempt. Told for cause verdict.
  milliseconds retry_in{0};             ///< Told with attempts_max for a run that goes on.
  std::uint64_t attempts_max = 0;
  std::optional<outage> lost_to{};
};
/// A run that nobody worked on.
struct cancelled {};
struct requeued {};
struct push_refused {
  error why;
  std::optional<push_request> push;  ///< Nothing: it was none.
};

using line = std::variant<offered, handed, refused, accepted, started, step, revived, ended,
                          cancelled, requeued, push_refused>;

/// As the journal stores it: who did what, and the details (null: none).
struct stored_line {
  std::string_view actor, what;
  nlohmann::json detail;
};
stored_line to_stored(const line& l);

}  // namespace ntrace::domain::story
