#pragma once
// All that the dispatcher answers a call with, but for what it reads from the journal. Pure.
#include <variant>

#include "actors/rpc/messages/consumer_messages.hpp"
#include "actors/rpc/messages/runner_messages.hpp"

namespace ntrace::rpc {

/// Answer of drain and resume.
struct drain_answer {
  bool is_draining = false;
};
nlohmann::json to_json(const drain_answer& m);

using answer_value = std::variant<ok_answer, hello_answer, accepted, heartbeat_answer,
                                  append_answer, state_answer, job, stored, drain_answer>;
nlohmann::json to_json(const answer_value& m);

}  // namespace ntrace::rpc
