// The part of queue_fsm that runners speak to: accept, started, heartbeat, append, finish; and the
// end of an attempt, whoever brings it about.
#include <algorithm>
#include <utility>

#include "actors/dispatcher/queue_fsm.hpp"

namespace ntrace::dispatcher {
namespace {

std::uint64_t number(const nlohmann::json& args, const char* key) {
  const auto at = args.find(key);
  const bool counts = at != args.end() && at->is_number_integer() &&
                      (at->is_number_unsigned() || at->get<std::int64_t>() >= 0);
  return counts ? at->get<std::uint64_t>() : 0;
}

std::string text(const nlohmann::json& args, const char* key) {
  const auto at = args.find(key);
  return at != args.end() && at->is_string() ? at->get<std::string>() : "";
}

nlohmann::json cancelled_answer(const std::string& run) {
  return {{"run", run}, {"state", "cancelled"}};
}
}  // namespace

queue_fsm::entry* queue_fsm::by_token(std::uint64_t token) {
  const auto at = tokens_.find(token);
  if (at == tokens_.end()) return nullptr;
  const auto run = runs_.find(at->second);
  if (run == runs_.end()) return nullptr;
  const bool is_live =
      run->second.row.token == token || mutated(mutation::chunk_without_token_check);
  return is_live ? &run->second : nullptr;
}

queue_fsm::entry* queue_fsm::live(request_id request, const nlohmann::json& args, effects& out) {
  const auto token = number(args, "token");
  auto* e = by_token(token);
  if (e && (e->at == phase::held || mutated(mutation::chunk_without_token_check))) return e;
  if (e && e->at == phase::ending) {
    // A write that fails gives the lease back: nothing is refused for good before it is durable.
    out.push_back(answer{request, fail(ec::overloaded, "the end of token " + std::to_string(token) +
                                                           " is being written; ask again")});
    return nullptr;
  }
  out.push_back(answer{
      request, fail(ec::stale_lease, "token " + std::to_string(token) +
                                         " holds no lease; drop that attempt and its results")});
  return nullptr;
}

effects queue_fsm::on_accept(time_point now, session_id session, request_id request,
                             const nlohmann::json& args) {
  effects out;
  auto* e = by_token(number(args, "token"));
  if (!e || e->at != phase::offered || e->session != session || e->is_cancelled) {
    out.push_back(answer{request, fail(ec::stale_lease, "that offer is not open any more")});
    return out;
  }
  e->at = phase::held;
  e->deadline = now + options_.lease;
  ++e->row.attempts;
  e->row.state = run_state::leased;
  const auto id = e->row.id;
  const auto token = e->row.token;
  out.push_back(wake{e->deadline});
  write(out,
        {journal::set_run{id, run_state::leased, e->row.attempts, token, "", ""},
         story(*e, "lease", "accepted", {{"runner", sessions_[session].name}})},
        [this, id, token, request](time_point then, const result<journal::committed>& done,
                                   effects& next) {
          if (done) {
            next.push_back(answer{request, nlohmann::json{{"lease_ms", options_.lease.count()}}});
            next.push_back(changed{id});
            return;
          }
          next.push_back(answer{request, fail(done.error())});
          if (auto* again = by_token(token)) {
            tokens_.erase(token);
            --again->row.attempts;
            back_to_queue(then, *again, milliseconds{1000}, to_string(done.error()));
          }
        });
  return out;
}

effects queue_fsm::on_refuse(time_point now, session_id session, request_id request,
                             const nlohmann::json& args) {
  effects out;
  out.push_back(answer{request, nlohmann::json{{"ok", true}}});
  auto* e = by_token(number(args, "token"));
  if (!e || e->at != phase::offered || e->session != session) return out;
  tokens_.erase(e->row.token);
  if (const auto s = sessions_.find(session); s != sessions_.end())
    s->second.free = 0;  // Until its next heartbeat.
  back_to_queue(now, *e, milliseconds{0}, "the runner refused: " + text(args, "reason"));
  write(out, {story(*e, "queue", "refused", {{"reason", text(args, "reason")}})},
        [](time_point, const result<journal::committed>&, effects&) {
          // The story alone: losing the line loses no work.
        });
  schedule(now, out);
  return out;
}

effects queue_fsm::on_started(time_point now, request_id request, const nlohmann::json& args) {
  effects out;
  auto* e = live(request, args, out);
  if (!e) return out;
  e->row.state = run_state::running;
  e->deadline = now + options_.lease;
  const auto id = e->row.id;
  write(out,
        {journal::set_run{id, run_state::running, e->row.attempts, e->row.token, "", ""},
         story(*e, "attempt", "started", {{"zone", text(args, "zone")}})},
        [id, request](time_point, const result<journal::committed>& done, effects& next) {
          next.push_back(answer{request, done ? result<nlohmann::json>{nlohmann::json{{"ok", true}}}
                                              : fail(done.error())});
          next.push_back(changed{id});
        });
  return out;
}

effects queue_fsm::on_heartbeat(time_point now, session_id session, request_id request,
                                const nlohmann::json& args) {
  effects out;
  nlohmann::json stale = nlohmann::json::array();
  const auto attempts = args.value("attempts", nlohmann::json::array());
  for (const auto& one : attempts) {
    const auto token = one.is_object() ? number(one, "token") : 0;
    auto* e = by_token(token);
    if (e && e->at == phase::held && !e->is_cancelled) {
      e->deadline = now + options_.lease;
      e->session = session;
    } else if (!e || e->at != phase::ending) {
      stale.push_back(token);
    }
  }
  if (const auto s = sessions_.find(session); s != sessions_.end()) {
    // Offers on their way count against what the runner believes to be free.
    const auto offered = std::count_if(runs_.begin(), runs_.end(), [&](const auto& r) {
      return r.second.session == session &&
             (r.second.at == phase::offered || r.second.at == phase::committing);
    });
    const auto free = number(args, "free");
    s->second.workers = number(args, "workers");
    s->second.worker_text = text(args, "text");
    s->second.free =
        free > static_cast<std::uint64_t>(offered) ? free - static_cast<std::uint64_t>(offered) : 0;
  }
  out.push_back(
      answer{request, nlohmann::json{{"lease_ms", options_.lease.count()}, {"stale", stale}}});
  schedule(now, out);
  return out;
}

effects queue_fsm::on_append(time_point, request_id request, const nlohmann::json& args,
                             std::string data) {
  effects out;
  auto* e = live(request, args, out);
  if (!e) return out;
  const auto seq = number(args, "seq");
  if (seq <= e->sent_seq) {  // Sent again: it is there, or on its way there.
    out.push_back(answer{request, nlohmann::json{{"ack", e->journalled_seq}}});
    return out;
  }
  if (seq != e->sent_seq + 1) {
    error gap{ec::gap,
              "chunk " + std::to_string(seq) + " does not follow " + std::to_string(e->sent_seq),
              {{"expected", std::to_string(e->sent_seq + 1)}}};
    out.push_back(answer{request, fail(gap)});
    return out;
  }
  e->sent_seq = seq;
  const auto token = e->row.token;
  const auto id = e->row.id;
  journal::batch ops;
  if (text(args, "stream") == "events") {
    auto detail = nlohmann::json::parse(data, nullptr, false);
    if (detail.is_object()) ops.push_back(story(*e, "attempt", "step", std::move(detail)));
  }
  ops.insert(ops.begin(), journal::append_chunk{id, e->row.attempts, token, seq,
                                                text(args, "stream"), std::move(data)});
  write(out, std::move(ops),
        [this, token, id, seq, request](time_point, const result<journal::committed>& done,
                                        effects& next) {
          auto* again = by_token(token);
          if (!done) {
            if (again) again->sent_seq = again->journalled_seq;  // The outbox sends it again.
            next.push_back(answer{request, fail(done.error())});
          } else if (done->is_gap && again) {  // One before it failed: both are sent again.
            again->sent_seq = again->journalled_seq;
            next.push_back(answer{request, fail(ec::gap, "a chunk before it was not stored")});
          } else if (done->is_stale || !again) {
            next.push_back(answer{request, fail(ec::stale_lease, "token " + std::to_string(token) +
                                                                     " holds no lease any more")});
          } else {
            again->journalled_seq = std::max(again->journalled_seq, seq);
            next.push_back(answer{request, nlohmann::json{{"ack", again->journalled_seq}}});
            next.push_back(changed{id});
          }
        });
  return out;
}

effects queue_fsm::on_finish(time_point now, request_id request, const nlohmann::json& args) {
  effects out;
  auto* e = live(request, args, out);
  if (!e) return out;
  const auto v = verdict_from(text(args, "verdict"));
  // What was lost on the runner's side names no chunks: those that are stored stay as they are.
  const bool names_chunks = v != verdict::infrastructure || args.contains("last_seq");
  const auto last = number(args, "last_seq");
  // A verdict never overtakes the chunks that it names.
  if (names_chunks && last != e->journalled_seq && !mutated(mutation::finish_before_last_chunk)) {
    error gap{ec::gap,
              "the verdict names " + std::to_string(last) + " chunks, " +
                  std::to_string(e->journalled_seq) + " are stored",
              {{"expected", std::to_string(e->journalled_seq + 1)}}};
    out.push_back(answer{request, fail(gap)});
    return out;
  }
  if (!v) {
    out.push_back(answer{
        request, fail(error{ec::bad_argument,
                            "verdict must be passed, script_failed, timed_out or infrastructure",
                            {{"field", "verdict"}}})});
    return out;
  }
  end_attempt(now, *e, *v, text(args, "reason"), args.value("receipt", nlohmann::json{}), "attempt",
              request, out);
  return out;
}

void queue_fsm::end_attempt(time_point, entry& e, verdict v, const std::string& reason,
                            nlohmann::json receipt, const char* actor, request_id request,
                            effects& out) {
  const bool retry = !e.is_cancelled &&
                     (v == verdict::infrastructure ||
                      (mutated(mutation::script_failure_retried) && v == verdict::script_failed));
  const auto attempts_max = options_.attempts + (mutated(mutation::attempts_off_by_one) ? 1 : 0);
  const bool again = retry && e.row.attempts < attempts_max;
  run_state next = run_state::queued;
  if (e.is_cancelled)
    next = run_state::cancelled;
  else if (v == verdict::passed)
    next = run_state::done;
  else if (!retry)
    next = run_state::failed;
  else if (!again)
    next = run_state::quarantined;
  const auto wait =
      again ? backoff_wait(options_.backoff, static_cast<unsigned>(e.row.attempts) - 1, random_)
            : milliseconds{0};
  e.at = phase::ending;
  const auto id = e.row.id;
  const auto token = e.row.token;
  const auto session = e.session;
  const bool tell_runner = std::string_view{actor} != "attempt";  // Then it does not know yet.
  const auto final_reason =
      next == run_state::quarantined
          ? std::to_string(e.row.attempts) + " attempts failed, the last: " + reason
          : reason;
  nlohmann::json detail{{"verdict", to_string(v)}, {"reason", reason}, {"state", to_string(next)}};
  if (again) detail["retry_in_ms"] = wait.count();
  // The token is burnt in the same transaction: no later write of this attempt can count.
  write(out,
        {journal::end_attempt{id, token, std::string{to_string(v)}, reason, std::move(receipt)},
         journal::set_run{id, next, e.row.attempts, 0,
                          is_terminal(next) ? std::string{to_string(v)} : "", final_reason},
         story(e, actor, is_terminal(next) ? "ended" : "attempt_ended", std::move(detail))},
        [this, id, token, session, tell_runner, next, wait, reason, request](
            time_point now, const result<journal::committed>& done, effects& more) {
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
          if (tell_runner && sessions_.count(session) != 0)
            more.push_back(abort_attempt{session, token});
          if (!mutated(mutation::chunk_without_token_check)) tokens_.erase(token);
          const auto cancels = std::exchange(at->second.cancels, {});
          if (is_terminal(next)) {
            drop(id);
          } else {
            back_to_queue(now, at->second, wait, reason);
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

effects queue_fsm::on_cancel(time_point now, request_id request, const std::string& run) {
  effects out;
  const auto at = runs_.find(run);
  if (at == runs_.end()) {
    out.push_back(answer{
        request, fail(ec::invalid_state,
                      "run " + run + " is not open; `ntrace show " + run + "` tells its state")});
    return out;
  }
  auto& e = at->second;
  if (e.is_cancelled || e.at == phase::ending) {  // The outcome of what is being written decides.
    e.cancels.push_back(request);
    return out;
  }
  e.is_cancelled = true;
  if (mutated(mutation::cancel_in_memory) && e.at == phase::waiting) {
    out.push_back(answer{request, cancelled_answer(run)});
    return out;
  }
  if (e.at == phase::held) {
    end_attempt(now, e, verdict::infrastructure, "cancelled by request", {}, "queue", request, out);
    return out;
  }
  write(out,
        {journal::set_run{run, run_state::cancelled, e.row.attempts, 0, "", "cancelled by request"},
         story(e, "queue", "cancelled")},
        [this, run, request](time_point, const result<journal::committed>& done, effects& next) {
          const auto again = runs_.find(run);
          if (!done) {
            if (again != runs_.end()) {
              again->second.is_cancelled = false;
              end_cancels(again->second, fail(done.error()), next);
            }
            next.push_back(answer{request, fail(done.error())});
            return;
          }
          if (again != runs_.end()) end_cancels(again->second, cancelled_answer(run), next);
          drop(run);
          next.push_back(answer{request, cancelled_answer(run)});
          next.push_back(changed{run});
        });
  return out;
}

effects queue_fsm::on_requeue(time_point, request_id request, run_row row) {
  effects out;
  if (!is_terminal(row.state) || runs_.count(row.id) != 0) {
    out.push_back(answer{request, fail(ec::invalid_state, "run " + row.id + " is " +
                                                              std::string{to_string(row.state)} +
                                                              " and needs no requeue")});
    return out;
  }
  entry e;
  e.row = std::move(row);
  e.row.state = run_state::queued;
  e.row.attempts = 0;
  write(out,
        {journal::set_run{e.row.id, run_state::queued, 0, 0,
                          mutated(mutation::requeue_keeps_epoch) ? "infrastructure" : "", ""},
         story(e, "queue", "requeued")},
        [this, e, request](time_point now, const result<journal::committed>& done, effects& next) {
          if (!done) {
            next.push_back(answer{request, fail(done.error())});
            return;
          }
          runs_.emplace(e.row.id, e);
          next.push_back(answer{request, nlohmann::json{{"run", e.row.id}, {"state", "queued"}}});
          next.push_back(changed{e.row.id});
          schedule(now, next);
        });
  return out;
}

}  // namespace ntrace::dispatcher
