// The part of queue_fsm that ends attempts and runs, whoever brings it about, and that takes an end
// back: revive and requeue.
#include <utility>

#include "actors/dispatcher/queue_fsm.hpp"
#include "config/outage.hpp"

namespace ntrace::dispatcher {
namespace {

constexpr milliseconds deadline_retry{100};  // while something else is done with the run

nlohmann::json cancelled_answer(const std::string& run) {
  return {{"run", run}, {"state", "cancelled"}};
}
}  // namespace

/// Work that ended well while nobody could hear of it is not thrown away, unless the run has gone
/// on since: the journal decides that in the same transaction.
void queue_fsm::revive(entry& e, std::uint64_t token, session_id session, effects& out) {
  e.at = phase::reviving;
  e.session = session;
  e.row.token = token;
  tokens_[token] = e.row.id;
  const auto id = e.row.id;
  write(out, {journal::revive{id, token}, story(e, "lease", "revived")},
        [this, id, token](time_point now, const result<journal::committed>& done, effects& more) {
          const auto at = runs_.find(id);
          if (at == runs_.end()) return;
          auto& e2 = at->second;
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

queue_fsm::attempt_outcome queue_fsm::outcome_of(time_point now, const entry& e, verdict v,
                                                 const std::string& reason, bool is_at_once,
                                                 const std::optional<outage>& lost_to) {
  attempt_outcome out{run_state::failed, milliseconds{0}, outage_over(e.row.outages), reason};
  const bool retry = v == verdict::infrastructure ||
                     (mutated(mutation::script_failure_retried) && v == verdict::script_failed);
  if (e.is_cancelled) {
    out.next = run_state::cancelled;
  } else if (v == verdict::passed) {
    out.next = run_state::done;
  } else if (retry && lost_to && !mutated(mutation::outage_counts_as_attempt)) {
    out.outages = outage_met(e.row.outages, std::chrono::duration_cast<milliseconds>(now - e.begun),
                             *lost_to);
    const bool is_over = out.outages->waited >= options_.outage_patience;
    out.next = is_over ? run_state::quarantined : run_state::queued;
    out.wait = out.outages->wait;
    if (is_over) out.reason = outage_end_reason(*out.outages);
  } else if (retry) {
    const auto most = options_.attempts + (mutated(mutation::attempts_off_by_one) ? 1 : 0);
    const auto counted = e.row.attempts_counted();
    out.next = counted < most ? run_state::queued : run_state::quarantined;
    if (out.next == run_state::quarantined)
      out.reason = std::to_string(counted) + " attempts failed, the last: " + reason;
    else if (!is_at_once)
      out.wait = backoff_wait(options_.backoff, static_cast<unsigned>(counted) - 1, random_);
  }
  return out;
}

void queue_fsm::end_attempt(time_point ended_at, entry& e, verdict v, const std::string& reason,
                            nlohmann::json receipt, const char* actor, request_id request,
                            effects& out, const std::optional<outage>& lost_to) {
  const auto [next, wait, outages, final_reason] =
      outcome_of(ended_at, e, v, reason, std::string_view{actor} == "consumer", lost_to);
  e.at = phase::ending;
  const auto id = e.row.id;
  const auto token = e.row.token;
  const auto session = e.session;
  const bool tell_runner = std::string_view{actor} != "attempt";  // Then it does not know yet.
  const bool is_expired = std::string_view{actor} == "lease";
  nlohmann::json detail{{"verdict", to_string(v)}, {"reason", reason}, {"state", to_string(next)}};
  const bool again = !is_terminal(next);
  if (again) detail["retry_in_ms"] = wait.count();
  if (again) detail["attempts_max"] = options_.attempts;  // By which that was decided.
  if (!tell_runner) detail["chunks"] = e.journalled_seq;
  if (lost_to) detail["outage"] = outage_json(*lost_to);
  journal::batch ops{
      journal::end_attempt{id, token, std::string{to_string(v)}, reason, std::move(receipt),
                           is_expired},
      journal::set_run{id, next, e.row.attempts, 0,
                       is_terminal(next) ? std::string{to_string(v)} : "", final_reason},
      story(e, actor, is_terminal(next) ? "ended" : "attempt_ended", std::move(detail))};
  if (outages != e.row.outages) ops.push_back(journal::set_outages{id, outages});
  // The token is burnt in the same transaction: no later write of this attempt can count.
  write(out, std::move(ops),
        [this, id, token, session, tell_runner, is_expired, next = next, wait = wait, reason,
         outages = outages,
         request](time_point now, const result<journal::committed>& done, effects& more) {
          const auto at = runs_.find(id);
          if (at == runs_.end() || at->second.row.token != token) return;
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
          if (request != 0)
            more.push_back(answer{request, nlohmann::json{{"state", to_string(next)}}});
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

void queue_fsm::end_cancels(entry& e, const result<nlohmann::json>& outcome, effects& out) {
  for (const auto waiting : std::exchange(e.cancels, {})) out.push_back(answer{waiting, outcome});
}

/// Ends a run that nobody works on. `request`, unless 0, and cancels that came meanwhile are
/// answered with what became of it, or with why it could not be written.
void queue_fsm::end_waiting(entry& e, run_state state, const char* verdict_word,
                            const std::string& reason, journal::event told, request_id request,
                            effects& out) {
  e.is_cancelled = true;
  if (request != 0) e.cancels.push_back(request);
  const auto run = e.row.id;
  write(out,
        {journal::set_run{run, state, e.row.attempts, 0, verdict_word, reason}, std::move(told)},
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
    end_attempt(now, *e, verdict::infrastructure, "cancelled by request", {}, "queue", request,
                out);
    return out;
  }
  end_waiting(*e, run_state::cancelled, "", "cancelled by request", story(*e, "queue", "cancelled"),
              request, out);
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
    return end_attempt(now, *e, verdict::timed_out, reason, {}, "deadline", 0, out);
  if (e->at != phase::waiting) return;
  nlohmann::json detail{{"verdict", "timed_out"}, {"reason", reason}, {"state", "failed"}};
  end_waiting(*e, run_state::failed, "timed_out", reason,
              story(*e, "deadline", "ended", std::move(detail)), 0, out);
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
  journal::event told{row.id, 0, row.token, "queue", "requeued", {}};
  write(
      out,
      {journal::set_outages{row.id, nullptr},
       journal::set_run{row.id, run_state::queued, 0, 0,
                        mutated(mutation::requeue_keeps_epoch) ? "infrastructure" : "", "", true},
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
        waiting_.add(row);
        next.push_back(answer{request, nlohmann::json{{"run", row.id}, {"state", "queued"}}});
        next.push_back(changed{row.id});
        schedule(now, next);
      });
  return out;
}

}  // namespace ntrace::dispatcher
