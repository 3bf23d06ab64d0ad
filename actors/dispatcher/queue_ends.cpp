// The part of queue_fsm that ends attempts and runs, whoever brings it about, and that takes an end
// back: revive and requeue.
#include <utility>

#include "actors/dispatcher/queue_fsm.hpp"
#include "config/assert.hpp"
#include "config/outage.hpp"

namespace ntrace::dispatcher {

namespace story = domain::story;

namespace {

constexpr milliseconds deadline_retry{100};  // while something else is done with the run

rpc::state_answer cancelled_answer(const std::string& run) { return {run, run_state::cancelled}; }

}  // namespace

/// Work that ended well while nobody could hear of it is not thrown away, unless the run has gone
/// on since: the journal decides that in the same transaction.
void queue_fsm::revive(entry& e, std::uint64_t token, session_id session, effects& out) {
  NTRACE_ASSERT(e.at == phase::waiting, "nobody else was given the run since");
  NTRACE_ASSERT(tokens_.count(token) == 0, "its lease is over");
  e.at = phase::reviving;
  e.session = session;
  e.row.token = token;
  tokens_[token] = e.row.id;
  const auto id = e.row.id;
  write(out, {journal::revive{id, token}, story(e, story::revived{})},
        [this, id, token](time_point now, const result<journal::committed>& done, effects& more) {
          const auto at = runs_.find(id);
          if (at == runs_.end()) return;
          auto& e2 = at->second;
          NTRACE_ASSERT(e2.at == phase::reviving, "nothing is done with it meanwhile");
          if (done && !done->is_stale) {
            e2.at = phase::held;
            e2.begun = now;
            e2.row.state = run_state::leased;
            e2.row.expired_token = 0;
            e2.journalled_seq = e2.sent_seq = done->last_seq;
            e2.deadline = now + options_.lease;
            more.push_back(wake{e2.deadline});
          } else {
            tokens_.erase(token);
            if (done) e2.row.expired_token = 0;
            back_to_queue(now, e2, milliseconds{0}, "its last attempt could not be revived");
          }
          for (const auto waiting : std::exchange(e2.cancels, {}))
            for (auto& one : on_cancel(now, waiting, id)) more.push_back(std::move(one));
          more.push_back(changed{id});
          schedule(now, more);
        });
}

queue_fsm::attempt_outcome queue_fsm::outcome_of(time_point now, const entry& e,
                                                 const attempt_end& end) {
  const auto v = end.how;
  attempt_outcome out{run_state::failed, milliseconds{0}, outage_over(e.row.outages), end.reason};
  const bool retry = v == verdict::infrastructure ||
                     (mutated(mutation::script_failure_retried) && v == verdict::script_failed);
  if (e.is_cancelled) {
    out.next = run_state::cancelled;
  } else if (v == verdict::passed) {
    out.next = run_state::done;
  } else if (retry && end.lost_to && !mutated(mutation::outage_counts_as_attempt)) {
    out.outages = outage_met(e.row.outages, std::chrono::duration_cast<milliseconds>(now - e.begun),
                             *end.lost_to);
    const bool is_over = out.outages->waited >= options_.outage_patience;
    out.next = is_over ? run_state::quarantined : run_state::queued;
    out.wait = out.outages->wait;
    if (is_over) out.reason = outage_end_reason(*out.outages);
  } else if (retry) {
    const auto most = options_.attempts + (mutated(mutation::attempts_off_by_one) ? 1 : 0);
    NTRACE_ASSERT(e.row.attempts > domain::outages_of(e.row.outages),
                  "this attempt counts, and met no outage");
    const auto counted = e.row.attempts_counted();
    out.next = counted < most ? run_state::queued : run_state::quarantined;
    if (out.next == run_state::quarantined)
      out.reason = std::to_string(counted) + " attempts failed, the last: " + end.reason;
    else if (end.cause != domain::end_cause::peer_left)
      out.wait = backoff_wait(options_.backoff, static_cast<unsigned>(counted) - 1, random_);
  }
  return out;
}

void queue_fsm::end_attempt(time_point ended_at, entry& e, attempt_end end, effects& out) {
  NTRACE_ASSERT(e.at == phase::held, "only a lease that is held ends");
  NTRACE_ASSERT(by_token(e.row.token) == &e, "a live token is its run's");
  const auto [next, wait, outages, final_reason] = outcome_of(ended_at, e, end);
  e.at = phase::ending;
  const auto id = e.row.id;
  const auto token = e.row.token;
  const auto session = e.session;
  const auto request = end.request;
  const auto& reason = end.reason;
  // Unless it said so itself.
  const bool tell_runner = end.cause != domain::end_cause::verdict;
  const bool is_expired = end.cause == domain::end_cause::lease_expired;
  auto line = story(e, story::ended{end.cause, end.how, reason, next, e.journalled_seq, wait,
                                    options_.attempts, end.lost_to});
  journal::batch ops{
      journal::end_attempt{id, token, end.how, reason, std::move(end.receipt), is_expired},
      journal::set_run{id, next, e.row.attempts, 0,
                       is_terminal(next) ? std::optional{end.how} : std::nullopt, final_reason},
      std::move(line)};
  if (outages != e.row.outages) ops.push_back(journal::set_outages{id, outages});
  // The token is burnt in the same transaction: no later write of this attempt can count.
  write(out, std::move(ops),
        [this, id, token, session, tell_runner, is_expired, next = next, wait = wait, reason,
         outages = outages,
         request](time_point now, const result<journal::committed>& done, effects& more) {
          const auto at = runs_.find(id);
          if (at == runs_.end() || at->second.row.token != token) return;
          NTRACE_ASSERT(at->second.at == phase::ending, "nothing is done with it meanwhile");
          if (!done) {
            at->second.at =
                phase::held;  // Still owed: the runner repeats it, or the lease runs out again.
            at->second.deadline = now + options_.lease;
            more.push_back(wake{at->second.deadline});
            at->second.is_cancelled = false;  // The wish was not written: who made it is told so.
            end_cancels(at->second, fail(done.error()), more);
            if (request != 0) more.push_back(answer{request, fail(done.error())});
            return;
          }
          if (request != 0) more.push_back(answer{request, rpc::state_answer{"", next}});
          const auto told = sessions_.find(session);
          if (tell_runner && told != sessions_.end() && !told->second.is_consumer)
            more.push_back(abort_attempt{session, token});
          if (!mutated(mutation::chunk_without_token_check)) tokens_.erase(token);
          const auto cancels = std::exchange(at->second.cancels, {});
          if (is_terminal(next)) {
            drop(id);
          } else {
            at->second.row.outages = outage_stamped(outages, done->at_ms);
            back_to_queue(now, at->second, wait, reason);
            if (is_expired) at->second.row.expired_token = token;
          }
          for (const auto waiting : cancels)
            if (next == run_state::cancelled)
              more.push_back(answer{waiting, cancelled_answer(id)});
            else
              for (auto& one : on_cancel(now, waiting, id)) more.push_back(std::move(one));
          more.push_back(changed{id});
          schedule(now, more);
        });
}

void queue_fsm::end_cancels(entry& e, const result<rpc::answer_value>& outcome, effects& out) {
  for (const auto waiting : std::exchange(e.cancels, {})) out.push_back(answer{waiting, outcome});
}

/// Ends a run that nobody works on. `request`, unless 0, and cancels that came meanwhile are
/// answered with what became of it, or with why it could not be written.
void queue_fsm::end_waiting(entry& e, run_state state, std::optional<verdict> how,
                            const std::string& reason, const story::line& told, request_id request,
                            effects& out) {
  NTRACE_ASSERT(e.at == phase::waiting || e.at == phase::committing || e.at == phase::offered,
                "nobody works on it");
  NTRACE_ASSERT(is_terminal(state), "it ends");
  e.is_cancelled = true;
  if (request != 0) e.cancels.push_back(request);
  const auto run = e.row.id;
  write(out, {journal::set_run{run, state, e.row.attempts, 0, how, reason}, story(e, told)},
        [this, run, state](time_point now, const result<journal::committed>& done, effects& next) {
          const auto at = runs_.find(run);
          if (at == runs_.end()) return;
          auto& ended = at->second;
          if (!done) {
            ended.is_cancelled = false;
            end_cancels(ended, fail(done.error()), next);
            if (ended.at == phase::waiting)
              back_to_queue(now, ended, milliseconds{0}, ended.last_reason);
            schedule(now, next);
            return;
          }
          if (state == run_state::cancelled)
            end_cancels(ended, cancelled_answer(run), next);
          else
            end_cancels(ended, fail(ec::invalid_state, "run " + run + " ended by its deadline"),
                        next);
          drop(run);
          next.push_back(changed{run});
        });
}

effects queue_fsm::on_cancel(time_point now, request_id request, const std::string& run) {
  effects out;
  auto* e = activate(run);
  if (!e) {
    out.push_back(answer{
        request, fail(ec::invalid_state,
                      "run " + run + " is not open; `ntrace show " + run + "` tells its state")});
    return out;
  }
  // The outcome of what is being written decides.
  if (e->is_cancelled || e->is_accepting || e->at == phase::ending || e->at == phase::reviving) {
    e->cancels.push_back(request);
    return out;
  }
  if (mutated(mutation::cancel_in_memory) && e->at == phase::waiting) {
    e->is_cancelled = true;
    out.push_back(answer{request, cancelled_answer(run)});
    return out;
  }
  if (e->at == phase::held) {
    e->is_cancelled = true;
    end_attempt(
        now, *e,
        {domain::end_cause::cancelled, verdict::infrastructure, "cancelled by request", request},
        out);
    return out;
  }
  end_waiting(*e, run_state::cancelled, {}, "cancelled by request", story::cancelled{}, request,
              out);
  return out;
}

void queue_fsm::watch_deadline(time_point at, const std::string& run, effects& out) {
  deadline_of_[run] = at;
  deadlines_.emplace(at, run);
  out.push_back(wake{at});
}

void queue_fsm::end_overdue(time_point now, const std::string& run, effects& out) {
  auto* e = activate(run);
  if (!e) return;
  // Again until it has ended: the journal may refuse, or something else be under way with it.
  watch_deadline(now + deadline_retry, run, out);
  if (e->is_cancelled || e->is_accepting) return;
  const auto reason =
      "its deadline of " + std::to_string(e->row.deadline_ms) + " ms passed, counted from the push";
  if (e->at == phase::held)
    return end_attempt(now, *e, {domain::end_cause::deadline, verdict::timed_out, reason}, out);
  if (e->at != phase::waiting) return;
  story::ended told;
  told.cause = domain::end_cause::deadline;
  told.how = verdict::timed_out;
  told.reason = reason;
  told.state = run_state::failed;
  end_waiting(*e, run_state::failed, verdict::timed_out, reason, told, 0, out);
}

effects queue_fsm::on_requeue(time_point, request_id request, run_row row) {
  effects out;
  if (!is_terminal(row.state) || runs_.count(row.id) != 0 || waiting_.find(row.id)) {
    out.push_back(answer{request, fail(ec::invalid_state, "run " + row.id + " is " +
                                                              std::string{to_string(row.state)} +
                                                              " and needs no requeue")});
    return out;
  }
  row.state = run_state::queued;
  row.attempts = 0;
  row.deadline_ms = 0;  // It was the push's; who asks for the run now wants its result.
  row.outages = nullptr;
  auto told = journal::event_of(row.id, 0, 0, story::requeued{});
  write(
      out,
      {journal::set_outages{row.id, nullptr},
       journal::set_run{row.id, run_state::queued, 0, 0,
                        mutated(mutation::requeue_keeps_epoch)
                            ? std::optional{verdict::infrastructure}
                            : std::nullopt,
                        "", true},
       std::move(told)},
      [this, row, request](time_point now, const result<journal::committed>& done, effects& next) {
        if (!done) {
          next.push_back(answer{request, fail(done.error())});
          return;
        }
        if (done->is_stale && !mutated(mutation::deleted_run_is_requeued)) {
          next.push_back(answer{
              request, fail(ec::not_found, "run " + row.id + " is no longer kept; push again")});
          return;
        }
        const bool is_new = waiting_.add(row);
        NTRACE_ASSERT(is_new, "a run that had ended does not wait yet");
        next.push_back(answer{request, rpc::state_answer{row.id, run_state::queued}});
        next.push_back(changed{row.id});
        schedule(now, next);
      });
  return out;
}

}  // namespace ntrace::dispatcher
