#include "actors/dispatcher/intake_fsm.hpp"

#include <utility>

#include "config/limits.hpp"
#include "config/mutation.hpp"

namespace ntrace::dispatcher {

intake_effects intake_fsm::on_push(time_point now, request_id request, result<push_request> push,
                                   std::string run_id, std::int64_t at_ms) {
  if (asked_.size() >= limits::journal_queue_max) {
    gate_.note_turned_away();
    return {
        answer_push{request, fail(ec::overloaded, "the journal's queue is full; try again later")}};
  }
  if (!push) return refuse(now, request, std::move(run_id), nullptr, push.error());
  if (auto may = gate_.may_push(); !may)
    return refuse(now, request, std::move(run_id), &*push, may.error());
  intake_effects out;
  if (mutated(mutation::ack_before_commit))
    out.push_back(answer_push{request, receipt{run_id, run_state::queued, false, 0}});
  asked_[request].run = run_id;
  journal::insert_run in;
  in.run.id = std::move(run_id);
  in.run.source = push->source.empty() ? sources_.fill(push->owner, push->repo, push->sha)
                                       : std::move(push->source);
  in.run.owner = std::move(push->owner);
  in.run.repo = std::move(push->repo);
  in.run.sha = std::move(push->sha);
  in.run.priority = push->priority;
  in.run.created_ms = at_ms;
  in.run.deadline_ms = push->deadline_ms;
  in.key = std::move(push->key);
  in.payload = std::move(push->payload);
  journal::batch ops;  // Filled by a move: a list in braces would be copied.
  ops.push_back(std::move(in));
  out.push_back(write_push{request, std::move(ops)});
  return out;
}

/// The no is recorded under the id that the run would have had, and the answer names it, so that
/// `why` tells it later; of very many only some are.
intake_effects intake_fsm::refuse(time_point now, request_id request, std::string run_id,
                                  const push_request* push, error why) {
  intake_effects out;
  if (!gate_.note_refused(now)) {
    out.push_back(answer_push{request, fail(std::move(why))});
    return out;
  }
  nlohmann::json told{{"code", to_string(why.code)}, {"reason", why.message}};
  if (push) {
    told["owner"] = push->owner;
    told["repo"] = push->repo;
    told["sha"] = push->sha;
    if (!push->key.empty()) told["key"] = push->key;
  }
  out.push_back(write_push{
      request, {journal::event{run_id, 0, 0, "intake", journal::push_refused, std::move(told)}}});
  asked_[request] = {std::move(run_id), std::move(why)};
  return out;
}

intake_effects intake_fsm::on_written(request_id request,
                                      const result<journal::committed>& outcome) {
  intake_effects out;
  auto found = asked_.extract(request);
  if (!found) return out;
  auto& [run, refusal] = found.mapped();
  if (refusal.code != ec::none) {
    if (outcome)
      refusal.facts.emplace_back("run", std::move(run));
    else
      gate_.note_unrecorded();
    out.push_back(answer_push{request, fail(std::move(refusal))});
  } else if (!outcome) {
    out.push_back(answer_push{request, fail(outcome.error())});
  } else if (const auto& old = outcome->duplicate_of) {
    out.push_back(answer_push{request, receipt{old->id, old->state, true, 0}});
  } else {
    out.push_back(
        answer_push{request, receipt{std::move(run), run_state::queued, false, outcome->seq}});
  }
  return out;
}

}  // namespace ntrace::dispatcher
