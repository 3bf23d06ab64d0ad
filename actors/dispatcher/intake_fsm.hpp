#pragma once
// Takes pushes, or says no to them: nobody is told yes before the journal has it. Pure.
#include <cstdint>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "actors/dispatcher/push_gate.hpp"
#include "actors/dispatcher/source_template.hpp"
#include "actors/journal/journal_types.hpp"

namespace ntrace::dispatcher {

using request_id = std::uint64_t;  ///< A request that waits for its answer; chosen by the actor.

/// Answer by on_written with the request's id.
struct write_push {
  request_id request;
  journal::batch ops;
};
struct answer_push {
  request_id request;
  result<receipt> value;
};
using intake_effects = std::vector<std::variant<write_push, answer_push>>;

class intake_fsm {
public:
  intake_fsm(const std::string& pattern, push_gate& gate) : sources_{pattern}, gate_{gate} {}

  /// `push`: what was asked for, or what is wrong with it. A push that is refused is answered with
  /// the reason, and with the id under which that is on record ("run" among the error's facts).
  intake_effects on_push(time_point now, request_id request, result<push_request> push,
                         std::string run_id, std::int64_t at_ms);
  /// What the journal gave to the gate before, if it is a new run.
  intake_effects on_written(request_id request, const result<journal::committed>& outcome);

private:
  struct asked {
    std::string run;
    error refusal;  ///< ec::none for a push that is wanted.
  };
  intake_effects refuse(time_point now, request_id request, std::string run_id,
                        const push_request* push, error why);

  source_template sources_;
  push_gate& gate_;
  std::unordered_map<request_id, asked> asked_;  ///< What the journal has not answered.
};

}  // namespace ntrace::dispatcher
