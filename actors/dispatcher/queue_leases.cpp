// The part of queue_fsm that runners speak to: accept, started, heartbeat, append, finish.
#include <algorithm>

#include "actors/dispatcher/queue_fsm.hpp"
#include "config/assert.hpp"

namespace ntrace::dispatcher {

namespace story = domain::story;

queue_fsm::entry* queue_fsm::by_token(std::uint64_t token) {
  const auto at = tokens_.find(token);
  if (at == tokens_.end()) return nullptr;
  const auto run = runs_.find(at->second);
  if (run == runs_.end()) return nullptr;
  const bool is_live =
      run->second.row.token == token || mutated(mutation::chunk_without_token_check);
  return is_live ? &run->second : nullptr;
}

queue_fsm::entry* queue_fsm::live(request_id request, std::uint64_t token, effects& out) {
  auto* e = by_token(token);
  const bool is_held = e && e->at == phase::held && (!e->is_accepting || e->consumer);
  if (is_held || (e && mutated(mutation::chunk_without_token_check))) return e;
  if (e && (e->at == phase::ending || e->at == phase::reviving || e->at == phase::held)) {
    // What is being written may fail: nothing is refused for good before it is durable.
    out.push_back(
        answer{request, fail(ec::overloaded, "the lease of token " + std::to_string(token) +
                                                 " is being written; ask again")});
    return nullptr;
  }
  out.push_back(answer{
      request, fail(ec::stale_lease, "token " + std::to_string(token) +
                                         " holds no lease; drop that attempt and its results")});
  return nullptr;
}

effects queue_fsm::on_accept(time_point now, session_id session, request_id request,
                             const rpc::about_token& said) {
  effects out;
  auto* e = by_token(said.token);
  if (!e || e->at != phase::offered || e->session != session || e->is_cancelled) {
    out.push_back(answer{request, fail(ec::stale_lease, "that offer is not open any more")});
    return out;
  }
  e->at = phase::held;
  e->is_accepting = true;
  e->deadline = now + options_.lease;
  ++e->row.attempts;
  e->row.expired_token = 0;
  e->row.state = run_state::leased;
  const auto id = e->row.id;
  const auto token = e->row.token;
  NTRACE_ASSERT(token == said.token, "a live token is its run's");
  NTRACE_ASSERT(!e->consumer, "a consumer accepts nothing");
  out.push_back(wake{e->deadline});
  write(out,
        {journal::set_run{id, run_state::leased, e->row.attempts, token, {}, ""},
         story(*e, story::accepted{sessions_[session].name, options_.attempts, "", ""})},
        [this, id, token, request](time_point then, const result<journal::committed>& done,
                                   effects& next) {
          const auto cancels = settle_accept(id);
          if (done) {
            next.push_back(answer{request, rpc::accepted{options_.lease}});
            next.push_back(changed{id});
          } else {
            next.push_back(answer{request, fail(done.error())});
            if (auto* again = by_token(token)) {
              NTRACE_ASSERT(again->row.attempts > 0, "it counted as an attempt");
              tokens_.erase(token);
              --again->row.attempts;
              back_to_queue(then, *again, journal_retry, to_string(done.error()));
              schedule(then, next);
            }
          }
          do_after_accept(then, id, cancels, next);
        });
  return out;
}

std::vector<request_id> queue_fsm::settle_accept(const std::string& run) {
  const auto at = runs_.find(run);
  if (at == runs_.end()) return {};
  at->second.is_accepting = false;
  return std::exchange(at->second.cancels, {});
}

void queue_fsm::do_after_accept(time_point now, const std::string& run,
                                const std::vector<request_id>& cancels, effects& out) {
  if (const auto at = runs_.find(run); at != runs_.end() && at->second.at == phase::held) {
    auto& e = at->second;
    out.push_back(wake{e.deadline});  // It may have passed meanwhile.
    if (e.consumer && sessions_.count(e.session) == 0 && cancels.empty())
      end_attempt(now, e, consumer_left(), out);
  }
  for (const auto waiting : cancels)
    for (auto& one : on_cancel(now, waiting, run)) out.push_back(std::move(one));
}

effects queue_fsm::on_refuse(time_point now, session_id session, request_id request,
                             const rpc::refuse& said) {
  effects out;
  out.push_back(answer{request, rpc::ok_answer{}});
  auto* e = by_token(said.token);
  if (!e || e->at != phase::offered || e->session != session) return out;
  tokens_.erase(e->row.token);
  if (const auto s = sessions_.find(session); s != sessions_.end())
    s->second.free = 0;  // Until its next heartbeat.
  back_to_queue(now, *e, milliseconds{0}, "the runner refused: " + said.reason);
  write(out, {story(*e, story::refused{said.reason})},
        [](time_point, const result<journal::committed>&, effects&) {
          // The story alone: losing the line loses no work.
        });
  schedule(now, out);
  return out;
}

effects queue_fsm::on_started(time_point now, request_id request, const rpc::started& said) {
  effects out;
  auto* e = live(request, said.token, out);
  if (!e) return out;
  e->row.state = run_state::running;
  e->deadline = now + options_.lease;
  const auto id = e->row.id;
  write(out,
        {journal::set_run{id, run_state::running, e->row.attempts, e->row.token, {}, ""},
         story(*e, story::started{said.zone})},
        [id, request](time_point, const result<journal::committed>& done, effects& next) {
          next.push_back(answer{
              request, done ? result<rpc::answer_value>{rpc::ok_answer{}} : fail(done.error())});
          next.push_back(changed{id});
        });
  return out;
}

bool queue_fsm::may_revive(const std::string& run, std::uint64_t token) const {
  const auto at = runs_.find(run);
  if (at != runs_.end())
    return at->second.at == phase::waiting && !at->second.is_cancelled &&
           at->second.row.expired_token == token;
  const auto row = waiting_.find(run);
  return row && row->expired_token == token;
}

std::vector<std::uint64_t> queue_fsm::hear_attempts(time_point now, session_id session,
                                                    const std::vector<rpc::known_attempt>& attempts,
                                                    effects& out) {
  std::vector<std::uint64_t> stale;
  for (const auto& one : attempts) {
    const auto token = one.token;
    auto* e = by_token(token);
    if (e && e->at == phase::held && !e->is_cancelled) {
      e->deadline = now + options_.lease;
      e->session = session;
    } else if (!e && one.ended && *one.ended != verdict::infrastructure &&
               may_revive(one.run, token)) {
      revive(*activate(one.run), token, session, out);
    } else if (!e || (e->at != phase::ending && e->at != phase::reviving)) {
      stale.push_back(token);
    }
  }
  return stale;
}

effects queue_fsm::on_heartbeat(time_point now, session_id session, request_id request,
                                const rpc::runner_report& said) {
  effects out;
  auto stale = hear_attempts(now, session, said.attempts, out);
  if (const auto s = sessions_.find(session); s != sessions_.end()) {
    // Offers on their way count against what the runner believes to be free.
    const auto offered =
        static_cast<std::uint64_t>(std::count_if(runs_.begin(), runs_.end(), [&](const auto& r) {
          return r.second.session == session &&
                 (r.second.at == phase::offered || r.second.at == phase::committing);
        }));
    s->second.workers = said.workers;
    s->second.worker_text = said.text;
    s->second.free = said.free > offered ? said.free - offered : 0;
  }
  out.push_back(answer{request, rpc::heartbeat_answer{options_.lease, std::move(stale)}});
  schedule(now, out);
  return out;
}

effects queue_fsm::on_append(time_point, request_id request, rpc::append said) {
  effects out;
  auto* e = live(request, said.token, out);
  if (!e) return out;
  const auto seq = said.seq;
  if (seq <= e->sent_seq) {  // Sent again: it is there, or on its way there.
    out.push_back(answer{request, rpc::append_answer{e->journalled_seq}});
    return out;
  }
  NTRACE_ASSERT(e->journalled_seq <= e->sent_seq, "what is stored was given to the journal");
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
  journal::batch ops{
      journal::append_chunk{id, e->row.attempts, token, seq, said.stream, std::move(said.data)}};
  if (said.event) ops.push_back(story(*e, story::step{said.event}));
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
            // A late answer of an earlier sending may have set it back below what is stored now.
            again->sent_seq = std::max(again->sent_seq, again->journalled_seq);
            next.push_back(answer{request, rpc::append_answer{again->journalled_seq}});
            next.push_back(changed{id});
          }
        });
  return out;
}

effects queue_fsm::on_finish(time_point now, request_id request, const rpc::finish& said) {
  effects out;
  auto* e = live(request, said.token, out);
  if (!e) return out;
  // A verdict never overtakes the chunks that it names.
  if (said.last_seq && *said.last_seq != e->journalled_seq &&
      !mutated(mutation::finish_before_last_chunk)) {
    error gap{ec::gap,
              "the verdict names " + std::to_string(*said.last_seq) + " chunks, " +
                  std::to_string(e->journalled_seq) + " are stored",
              {{"expected", std::to_string(e->journalled_seq + 1)}}};
    out.push_back(answer{request, fail(gap)});
    return out;
  }
  end_attempt(
      now, *e,
      {domain::end_cause::verdict, said.how, said.reason, request, said.receipt, said.lost_to},
      out);
  return out;
}

}  // namespace ntrace::dispatcher
