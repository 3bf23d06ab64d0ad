#pragma once
// JSON values from untrusted text. Values are nlohmann's everywhere; what is well-formed is read by
// simdjson, in a fifth of the instructions, and what that refuses by nlohmann's own parser, whose
// word counts.
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "config/result.hpp"

namespace ntrace::net {

using json = nlohmann::json;

/// Untrusted text as JSON, nested no deeper than limits::json_depth_max: what walks it later may
/// recurse. Never throws; ec::bad_argument says where it is wrong.
result<json> parse_json(std::string_view text);

}  // namespace ntrace::net
