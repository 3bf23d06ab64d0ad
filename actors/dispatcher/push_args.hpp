#pragma once
// What counts as a push: the seed's form and the webhook payload's form. Pure.
#include "actors/dispatcher/run_types.hpp"

namespace ntrace::dispatcher {

/// ec::bad_argument: `field` must be `right`.
tl::unexpected<error> wrong_field(std::string_view field, std::string_view right);

/// The arguments of `push`: [owner, repo, sha] or [payload], with {options} behind or not.
/// ec::bad_argument names the field and what it must look like. docs/protocol.md, "Dispatcher".
result<push_request> parse_push(const nlohmann::json& args);

}  // namespace ntrace::dispatcher
