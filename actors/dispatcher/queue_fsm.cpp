#include "actors/dispatcher/queue_fsm.hpp"

#include <algorithm>
#include <utility>

#include "config/assert.hpp"
#include "config/limits.hpp"

namespace ntrace::dispatcher {

namespace story = domain::story;

void queue_fsm::write(effects& out, journal::batch ops, continuation then) {
  pending_[next_tag_] = std::move(then);
  out.push_back(commit{next_tag_++, std::move(ops)});
}

journal::event queue_fsm::story(const entry& e, const domain::story::line& line) {
  return journal::event_of(e.row.id, e.row.attempts, e.row.token, line);
}

effects queue_fsm::on_committed(time_point now, std::uint64_t tag,
                                const result<journal::committed>& outcome) {
  effects out;
  const auto at = pending_.find(tag);
  if (at == pending_.end()) return out;
  const auto then = std::move(at->second);
  pending_.erase(at);
  then(now, outcome, out);
  gate_.set_open_runs(open_runs());
  return out;
}

effects queue_fsm::on_recovered(time_point now, std::int64_t wall_ms, std::vector<run_row> rows) {
  effects out;
  for (auto& row : rows) {
    NTRACE_ASSERT(!is_terminal(row.state), "the journal gives open runs");
    // Pushed while the queue was being read.
    if (runs_.count(row.id) != 0 || waiting_.contains(row.id)) continue;
    if (row.deadline_ms != 0)
      watch_deadline(now + milliseconds{std::clamp<std::int64_t>(
                               row.created_ms + row.deadline_ms - wall_ms, 0, row.deadline_ms)},
                     row.id, out);
    if (row.state != run_state::queued && mutated(mutation::restart_forgets_who_had_what)) continue;
    const auto wait = left_to_wait(row.outages, wall_ms);
    if (row.state == run_state::queued && wait.count() == 0) {
      waiting_.add(row);
      continue;
    }
    const bool is_queued = row.state == run_state::queued;
    auto& e = activate(std::move(row));
    if (is_queued) {
      back_to_queue(now, e, wait, e.row.outages->last.message);
      continue;
    }
    NTRACE_ASSERT(e.row.token != 0, "a run that is worked on has a token");
    e.at = phase::held;
    e.begun = now;
    e.deadline = mutated(mutation::no_lease_after_restart) ? now : now + options_.lease;
    tokens_[e.row.token] = e.row.id;
    out.push_back(wake{e.deadline});
    if (e.row.is_consumers)  // The lease was bound to a connection.
      end_attempt(now, e,
                  {domain::end_cause::peer_left, verdict::infrastructure,
                   "the dispatcher restarted, and the consumer's connection with it"},
                  out);
  }
  gate_.set_open_runs(open_runs());
  schedule(now, out);
  return out;
}

queue_fsm::entry& queue_fsm::activate(run_row row) {
  NTRACE_ASSERT(!waiting_.contains(row.id), "a run waits or is worked on, not both");
  entry e;
  e.row = std::move(row);
  e.journalled_seq = e.sent_seq = e.row.last_seq;
  const auto id = e.row.id;
  return runs_.insert_or_assign(id, std::move(e)).first->second;
}

queue_fsm::entry* queue_fsm::activate(const std::string& run) {
  if (const auto at = runs_.find(run); at != runs_.end()) return &at->second;
  auto row = waiting_.take(run);
  return row ? &activate(std::move(*row)) : nullptr;
}

effects queue_fsm::on_hello(time_point now, session_id session, request_id request,
                            const rpc::runner_report& said) {
  effects out;
  if (said.version < 1) {
    out.push_back(answer{
        request, fail(ec::version_mismatch, "protocol version " + std::to_string(said.version) +
                                                " is not known; this dispatcher speaks 1 to " +
                                                std::to_string(rpc::protocol_version) +
                                                "; upgrade the runner")});
    return out;
  }
  auto& s = sessions_[session];
  if (s.is_consumer) {
    out.push_back(answer{request, fail(ec::invalid_state,
                                       "this connection asks for jobs with next; say hello first "
                                       "on a connection of its own")});
    return out;
  }
  s.name = said.name.empty() ? "runner" : said.name;
  s.workers = said.workers;
  s.free = said.free;
  hear_attempts(now, session, said.attempts, out);
  out.push_back(answer{request, rpc::hello_answer{std::min(said.version, rpc::protocol_version),
                                                  options_.lease, options_.lease / 3, session}});
  schedule(now, out);
  return out;
}

void queue_fsm::release_due(time_point now) {
  while (!retries_.empty() && retries_.begin()->first <= now) {
    const auto due = retries_.extract(retries_.begin());
    const auto at = runs_.find(due.value().second);
    // Since it was noted, the run may have ended, or been put off again.
    if (at == runs_.end() || at->second.at != phase::waiting || at->second.is_cancelled ||
        at->second.not_before > now)
      continue;
    NTRACE_ASSERT(at->second.row.state == run_state::queued, "who waits for a retry is queued");
    const bool is_new = waiting_.add(at->second.row);
    NTRACE_ASSERT(is_new, "a run waits once");
    runs_.erase(at);
  }
}

void queue_fsm::schedule(time_point now, effects& out) {
  release_due(now);
  if (!is_draining_ && !is_stopping_) {
    for (auto& [session, s] : sessions_) {
      while (s.free > 0) {
        auto row = waiting_.take_next();
        if (!row) break;
        --s.free;
        auto& e = activate(std::move(*row));
        s.is_consumer ? hand_to(now, session, e, out) : offer_to(now, session, e, out);
      }
    }
  }
  if (!retries_.empty()) out.push_back(wake{retries_.begin()->first});
}

std::uint64_t queue_fsm::give_token(time_point now, session_id session, entry& e) {
  NTRACE_ASSERT(e.at == phase::waiting, "only who waits is offered");
  e.at = phase::committing;
  e.begun = now;
  e.session = session;
  e.row.token = ++last_token_;
  e.journalled_seq = e.sent_seq = 0;
  const bool is_new = tokens_.emplace(e.row.token, e.row.id).second;
  NTRACE_ASSERT(is_new, "a token is given once");
  return e.row.token;
}

void queue_fsm::offer_to(time_point offered_at, session_id session, entry& e, effects& out) {
  const auto token = give_token(offered_at, session, e);
  const auto id = e.row.id;
  const auto& name = sessions_[session].name;
  write(out,
        {journal::put_attempt{id, e.row.attempts + 1, token, name},
         journal::set_run{id, run_state::queued, e.row.attempts, token, {}, ""},
         story(e, story::offered{name})},
        [this, id, session, token](time_point now, const result<journal::committed>& done,
                                   effects& next) {
          const auto at = runs_.find(id);
          if (at == runs_.end() || at->second.row.token != token) return;
          auto& e2 = at->second;
          if (!done || e2.is_cancelled || sessions_.count(session) == 0) {
            tokens_.erase(token);
            back_to_queue(now, e2, done ? milliseconds{0} : journal_retry,
                          done ? "the runner went away" : to_string(done.error()));
            schedule(now, next);
            return;
          }
          NTRACE_ASSERT(e2.at == phase::committing, "its offer was being written");
          e2.at = phase::offered;
          e2.deadline = now + options_.offer;
          next.push_back(wake{e2.deadline});
          next.push_back(offer{session,
                               {id, e2.row.attempts + 1, token, e2.row.owner, e2.row.repo,
                                e2.row.sha, e2.row.source}});
        });
}

void queue_fsm::back_to_queue(time_point now, entry& e, milliseconds wait,
                              const std::string& reason) {
  NTRACE_ASSERT(wait.count() >= 0, "a wait is not over before it begins");
  NTRACE_ASSERT(!is_terminal(e.row.state), "what has ended is not queued again");
  e.at = phase::waiting;
  e.not_before = now + wait;
  e.row.state = run_state::queued;
  e.session = 0;
  e.last_reason = reason;
  let_go(e);
  retries_.emplace(e.not_before, e.row.id);
}

void queue_fsm::drop(const std::string& run) {
  if (const auto due = deadline_of_.extract(run)) deadlines_.erase({due.mapped(), run});
  const auto at = runs_.find(run);
  if (at == runs_.end()) return;
  NTRACE_ASSERT(at->second.cancels.empty(), "nobody waits for an answer about it");
  tokens_.erase(at->second.row.token);
  let_go(at->second);
  runs_.erase(at);
}

effects queue_fsm::on_session_gone(time_point now, session_id session) {
  effects out;
  if (mutated(mutation::dead_requests_are_kept)) return out;
  end_session(now, session, out);
  schedule(now, out);
  return out;
}

effects queue_fsm::on_port_opened(time_point now, session_id first) {
  effects out;
  if (mutated(mutation::port_forgets_its_peers)) return out;
  while (!sessions_.empty() && sessions_.begin()->first < first)
    end_session(now, sessions_.begin()->first, out);
  schedule(now, out);
  return out;
}

void queue_fsm::end_session(time_point now, session_id session, effects& out) {
  auto gone = sessions_.extract(session);
  if (!gone) return;
  if (gone.mapped().is_consumer) end_session_of_consumer(now, session, gone.mapped(), out);
  for (auto& [id, e] : runs_) {
    if (e.session != session || e.at != phase::offered) continue;
    if (mutated(mutation::unbegun_job_is_nobodys)) continue;
    tokens_.erase(e.row.token);  // An offer nobody took is worth nothing; a lease lives on.
    back_to_queue(now, e, milliseconds{0}, gone.mapped().name + " went away before it accepted");
  }
}

effects queue_fsm::on_tick(time_point now) {
  effects out;
  auto earliest = time_point::max();
  std::vector<std::string> expired;
  for (auto& [id, e] : runs_) {
    if ((e.at != phase::offered && e.at != phase::held) || e.is_accepting) continue;
    if (now >= e.deadline)
      expired.push_back(id);
    else
      earliest = std::min(earliest, e.deadline);
  }
  for (const auto& id : expired) {
    auto& e = runs_.at(id);
    if (e.at == phase::offered) {
      // Not answered in time; the token is burnt with it, and this runner waits for its next word.
      tokens_.erase(e.row.token);
      if (const auto s = sessions_.find(e.session); s != sessions_.end() && !s->second.is_consumer)
        s->second.free = 0;
      back_to_queue(now, e, milliseconds{0}, "the offer was not answered");
    } else {
      const auto silence = e.consumer ? options_.consumer_silence : options_.lease;
      end_attempt(now, e,
                  {domain::end_cause::lease_expired, verdict::infrastructure,
                   "the lease expired: the runner was silent for " +
                       std::to_string(silence.count()) + " ms"},
                  out);
    }
  }
  std::vector<std::string> overdue;
  while (!deadlines_.empty() && deadlines_.begin()->first <= now)
    overdue.push_back(deadlines_.extract(deadlines_.begin()).value().second);
  for (const auto& id : overdue) end_overdue(now, id, out);
  if (!deadlines_.empty()) earliest = std::min(earliest, deadlines_.begin()->first);
  if (earliest != time_point::max()) out.push_back(wake{earliest});
  schedule(now, out);
  return out;
}

std::size_t queue_fsm::held() const {
  return static_cast<std::size_t>(std::count_if(
      runs_.begin(), runs_.end(), [](const auto& r) { return r.second.at != phase::waiting; }));
}

std::string queue_fsm::waits_for(time_point now, const std::string& run) const {
  const auto at = runs_.find(run);
  if (at == runs_.end() && !waiting_.find(run)) return "";
  const entry none;
  const auto& e = at == runs_.end() ? none : at->second;
  if (e.at == phase::held)
    return "attempt " + std::to_string(e.row.attempts) + " is being worked on";
  if (e.at == phase::reviving) return "the journal, to give an attempt its lease back";
  if (e.at != phase::waiting) return "a runner's answer to the offer";
  if (is_draining_) return "the end of the drain: `ntrace resume`";
  if (e.not_before > now && e.row.outages && e.row.outages->is_on()) return outage_text(now, e);
  if (e.not_before > now)
    return "its next attempt in " +
           std::to_string(std::chrono::ceil<milliseconds>(e.not_before - now).count()) +
           " ms, after: " + e.last_reason;
  if (sessions_.empty()) return "a runner: none is connected";
  std::uint64_t workers = 0;
  std::string text;
  for (const auto& [id, s] : sessions_) {
    workers += s.workers;
    text += (text.empty() ? "" : "; ") + s.name + ": ";
    if (s.is_consumer)
      text += "asks for " + std::to_string(s.nexts.size()) + " jobs";
    else
      text += (s.worker_text.empty() ? std::to_string(s.workers) + " enrolled" : s.worker_text);
  }
  if (workers == 0) return "a worker: the runners have none enrolled";
  return "a free worker (" + text + ")";
}

queue_status queue_fsm::status(time_point now) const {
  queue_status out;
  out.is_draining = is_draining_;
  out.open = open_runs();
  out.pushes_refused = gate_.refused();
  out.refusals_not_recorded = gate_.refused_unrecorded();
  out.outages = outages(now);
  for (const auto& [id, s] : sessions_) out.runners.push_back({id, s.name, s.workers, s.free});
  out.waiting = waiting_.size();
  for (const auto& [id, e] : runs_) {
    if (e.at == phase::waiting) ++out.waiting;
    if (e.at != phase::held) continue;
    const auto held_by = sessions_.find(e.session);
    out.leases.push_back({id, held_by == sessions_.end() ? "" : held_by->second.name, e.row.token,
                          e.row.attempts,
                          std::chrono::duration_cast<milliseconds>(e.deadline - now)});
  }
  return out;
}

}  // namespace ntrace::dispatcher
