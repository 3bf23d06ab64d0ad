#pragma once
// The answers of a runner of ours to people: its workers and its state. Pure.
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "actors/rpc/messages/runner_messages.hpp"
#include "actors/runner/zone_pool_fsm.hpp"

namespace ntrace::runner {

nlohmann::json to_json(const worker& w);
nlohmann::json to_json(const std::vector<worker>& all);

/// Answer of `status`.
struct runner_status {
  rpc::runner_report report;
  bool is_draining = false, is_linked = false;
  std::map<std::string, std::int64_t> gauges;
};
nlohmann::json to_json(const runner_status& s);

/// Answer of `offer` and `abort`: they are heard, and what comes of it is said by itself.
struct received_answer {};
nlohmann::json to_json(const received_answer& a);

/// Answer of `expel`.
struct expelled_answer {
  std::string uuid;
};
nlohmann::json to_json(const expelled_answer& a);

/// Argument of `expel` behind the uuid.
struct expel_options {
  bool is_abort = false;  ///< End the attempt that runs there.
};
/// ec::bad_argument.
result<expel_options> parse_expel_options(const nlohmann::json& value);

}  // namespace ntrace::runner
