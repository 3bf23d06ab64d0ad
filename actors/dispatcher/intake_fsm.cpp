#include "actors/dispatcher/intake_fsm.hpp"

#include <utility>

#include "config/assert.hpp"
#include "config/limits.hpp"
#include "config/mutation.hpp"

namespace ntrace::dispatcher {
namespace {

/// A value for people; a source may have thousands of bytes.
std::string shown(const std::string& value) {
  constexpr std::size_t shown_max = 100;
  return value.size() <= shown_max ? value : value.substr(0, shown_max) + "…";
}

}  // namespace

intake_effects intake_fsm::on_push(time_point now, request_id request, result<push_request> push,
                                   std::string run_id, std::int64_t at_ms) {
  if (unanswered_ >= limits::journal_queue_max) {
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
  journal::insert_run in;
  in.run.id = run_id;
  in.has_source = !push->source.empty();
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
  asked one{request, std::move(run_id), in.key, now, {}};
  ask(std::move(one), std::move(in));
  return out;
}

void intake_fsm::ask(asked a, journal::operation op) {
  next_.push_back(std::move(a));
  batches_.emplace_back().push_back(std::move(op));
  ++unanswered_;
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
  domain::story::push_refused told{why, {}};
  if (push) told.push = *push;
  auto record = journal::event_of(run_id, 0, 0, told);
  ask({request, std::move(run_id), {}, now, std::move(why)}, std::move(record));
  return out;
}

/// Its key belongs to another push, so it can only be refused: as the same it would never run, and
/// as a new one it would run twice when it is sent again.
intake_effects intake_fsm::refuse_key(asked a, const journal::committed& outcome) {
  const auto& old = *outcome.duplicate_of;
  push_request push;
  push.owner = old.owner;
  push.repo = old.repo;
  push.sha = old.sha;
  push.key = a.key;
  std::string words, members;
  for (const auto& d : outcome.differences) {
    if (d.member == "owner") push.owner = d.now;
    if (d.member == "repo") push.repo = d.now;
    if (d.member == "sha") push.sha = d.now;
    words += (words.empty() ? "" : ", ") + d.member + " is " + shown(d.now) + ", there it was " +
             shown(d.then);
    members += (members.empty() ? "" : ", ") + d.member;
  }
  error why{ec::key_conflict,
            "the key \"" + a.key + "\" belongs to run " + old.id +
                ", which is another push: " + words + "; give this push a key of its own",
            {{"belongs_to", old.id}, {"differs", members}}};
  return refuse(a.at, a.request, std::move(a.run), &push, std::move(why));
}

/// One group at a time, unless there is much: what comes while the disk works shares the next.
intake_effects intake_fsm::on_round() {
  intake_effects out;
  if (groups_.empty() || next_.size() >= full_group) write(out);
  return out;
}

void intake_fsm::write(intake_effects& out) {
  if (next_.empty()) return;
  NTRACE_ASSERT(next_.size() == batches_.size(), "each push has its write");
  const auto group = next_group_++;
  groups_[group] = std::exchange(next_, {});
  out.push_back(write_pushes{group, std::exchange(batches_, {})});
}

intake_effects intake_fsm::on_written(std::uint64_t group,
                                      const std::vector<result<journal::committed>>& outcomes) {
  intake_effects out;
  auto found = groups_.extract(group);
  if (!found) return out;
  write(out);  // First: so that the disk works on them while these are answered.
  auto& all = found.mapped();
  NTRACE_ASSERT(outcomes.size() == all.size(), "each write has its outcome");
  NTRACE_ASSERT(unanswered_ >= all.size(), "none is answered twice");
  out.reserve(out.size() + all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto& outcome = outcomes.at(mutated(mutation::first_outcome_for_all) ? 0 : i);
    if (outcome && !outcome->differences.empty() && !mutated(mutation::key_conflict_ignored))
      for (auto& one : refuse_key(std::move(all[i]), *outcome)) out.push_back(std::move(one));
    else
      out.push_back(answer(std::move(all[i]), outcome));
  }
  unanswered_ -= all.size();
  if (groups_.empty()) write(out);  // What is on record of keys that were refused.
  return out;
}

answer_push intake_fsm::answer(asked a, const result<journal::committed>& outcome) {
  if (a.refusal.code != ec::none) {
    if (outcome)
      a.refusal.facts.emplace_back("run", std::move(a.run));
    else
      gate_.note_unrecorded();
    return {a.request, fail(std::move(a.refusal))};
  }
  if (!outcome) return {a.request, fail(outcome.error())};
  if (const auto& old = outcome->duplicate_of)
    return {a.request, receipt{old->id, old->state, true, 0}};
  return {a.request, receipt{std::move(a.run), run_state::queued, false, outcome->seq}};
}

}  // namespace ntrace::dispatcher
