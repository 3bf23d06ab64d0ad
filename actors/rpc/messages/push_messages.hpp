#pragma once
// `push`: the seed's form and the webhook payload's form, and its answer. Pure.
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "actors/domain/run.hpp"
#include "config/result.hpp"

namespace ntrace::rpc {

/// The arguments of `push`: [owner, repo, sha] or [payload], with {options} behind or not.
/// ec::bad_argument names the field and what it must look like. docs/protocol.md, "Dispatcher".
result<domain::push_request> parse_push(const nlohmann::json& args);

/// The answer, as JSON text.
std::string to_text(const domain::receipt& r);

}  // namespace ntrace::rpc
