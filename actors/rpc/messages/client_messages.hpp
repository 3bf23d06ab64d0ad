#pragma once
// What people's commands ask a dispatcher or a runner for. docs/protocol.md. Pure.
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "actors/domain/queries.hpp"
#include "config/clock.hpp"
#include "config/result.hpp"

namespace ntrace::rpc {

/// Arguments of `runs`: [{repo, state, since_ms, before, after, limit}] or none.
result<domain::runs_query> parse_runs(const nlohmann::json& args);

/// Arguments of a method about one run: [run, …] or [{run}]. ec::bad_argument without one.
result<std::string> parse_run(const nlohmann::json& args);

/// Arguments of `logs`: [run, {after, stream, wait_ms, outage_tries}].
struct logs {
  domain::logs_query what;
  milliseconds wait{0};  ///< For something new, at most 30 s.
  /// The asker knows of so many tries at what cannot be reached: another number is news.
  std::optional<std::uint64_t> outage_tries;
};
result<logs> parse_logs(const nlohmann::json& args);

}  // namespace ntrace::rpc
