#pragma once
// Takes pushes, or says no to them: nobody is told yes before the journal has it. Pushes that come
// together are written together. Pure.
#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "actors/dispatcher/push_gate.hpp"
#include "actors/dispatcher/source_template.hpp"
#include "actors/journal/journal_types.hpp"

namespace ntrace::dispatcher {

using domain::push_request;
using domain::receipt;
using domain::run_state;

using request_id = std::uint64_t;  ///< A request that waits for its answer; chosen by the actor.

/// Each batch all or nothing; answer by on_written with the group's number.
struct write_pushes {
  std::uint64_t group;
  std::vector<journal::batch> batches;
};
struct answer_push {
  request_id request;
  result<receipt> value;
};
using intake_effects = std::vector<std::variant<write_pushes, answer_push>>;

class intake_fsm {
public:
  /// So many pushes are worth a write of their own though another is under way.
  static constexpr std::size_t full_group = 6;

  intake_fsm(const std::string& pattern, push_gate& gate) : sources_{pattern}, gate_{gate} {}

  /// `push`: what was asked for, or what is wrong with it. A push that is refused is answered with
  /// the reason, and with the id under which that is on record ("run" among the error's facts).
  intake_effects on_push(time_point now, request_id request, result<push_request> push,
                         std::string run_id, std::int64_t at_ms);
  /// All that came together was given to on_push.
  intake_effects on_round();
  /// What became of a group's batches, in their order. What the journal gave to the gate before, if
  /// it is a new run.
  intake_effects on_written(std::uint64_t group,
                            const std::vector<result<journal::committed>>& outcomes);
  /// Pushes that wait for the journal.
  std::size_t unanswered() const { return unanswered_; }

private:
  struct asked {
    request_id request;
    std::string run, key;
    time_point at{};  ///< When it was pushed.
    error refusal;    ///< ec::none for a push that is wanted.
  };
  intake_effects refuse(time_point now, request_id request, std::string run_id,
                        const push_request* push, error why);
  intake_effects refuse_key(asked a, const journal::committed& outcome);
  void ask(asked a, journal::operation op);
  void write(intake_effects& out);
  answer_push answer(asked a, const result<journal::committed>& outcome);

  source_template sources_;
  push_gate& gate_;
  std::vector<asked> next_;  ///< Of the next group.
  std::vector<journal::batch> batches_;
  std::map<std::uint64_t, std::vector<asked>> groups_;  ///< That the journal has.
  std::uint64_t next_group_ = 1;
  std::size_t unanswered_ = 0;
};

}  // namespace ntrace::dispatcher
