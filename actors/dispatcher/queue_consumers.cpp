// The part of queue_fsm that consumers of the old protocol speak to: next and result.
// A job that was handed out is no more than an offer until the first document about it comes; from
// then on the lease is bound to the connection that asked for the job.
#include <algorithm>
#include <utility>

#include "actors/dispatcher/queue_fsm.hpp"
#include "config/assert.hpp"
#include "config/limits.hpp"
#include "config/mutation.hpp"
#include "config/zstd.hpp"

namespace ntrace::dispatcher {

namespace story = domain::story;

namespace {

answer closed_its_side(request_id request) {
  return {request, fail(ec::connection_lost,
                        "this connection closed its side; a job is given to an open one only")};
}

journal::append_doc stored_form(const rpc::result_doc& doc, const run_row& row) {
  journal::append_doc out{row.id, row.attempts, row.token, doc.id, doc.stream, {}};
  const auto data = doc.stream == domain::stream::result ? zstd_packed(doc.data) : doc.data;
  for (std::size_t at = 0; at < data.size(); at += limits::chunk_bytes_max)
    out.pieces.push_back(data.substr(at, limits::chunk_bytes_max));
  return out;
}

}  // namespace

effects queue_fsm::on_next(time_point now, session_id session, const std::string& address,
                           request_id request) {
  effects out;
  auto& s = sessions_[session];
  if (!s.name.empty() && !s.is_consumer) {
    out.push_back(answer{request, fail(ec::invalid_state,
                                       "this connection said hello: it is made offers, and asks "
                                       "for nothing with next")});
    return out;
  }
  s.is_consumer = true;
  s.address = address;
  s.name = "consumer@" + address;
  s.nexts.push_back(request);
  s.workers = std::max<std::uint64_t>(s.workers, s.nexts.size());
  ++s.free;
  schedule(now, out);
  return out;
}

void queue_fsm::hand_to(time_point handed_at, session_id session, entry& e, effects& out) {
  auto& s = sessions_.at(session);
  NTRACE_ASSERT(s.is_consumer && !s.nexts.empty(), "a free consumer waits for a job");
  const auto request = s.nexts.front();
  s.nexts.pop_front();
  const auto token = give_token(handed_at, session, e);
  e.consumer = consumer_lease{s.address, "", {}, ""};
  const auto id = e.row.id;
  write(out,
        {journal::put_attempt{id, e.row.attempts + 1, token, s.name, true},
         journal::set_run{id, run_state::queued, e.row.attempts, token, {}, ""},
         story(e, story::handed{s.name})},
        [this, id, session, token, request](time_point now, const result<journal::committed>& done,
                                            effects& next) {
          const auto at = runs_.find(id);
          const bool is_ours = at != runs_.end() && at->second.row.token == token;
          const auto asker = sessions_.find(session);
          if (!is_ours || !done || at->second.is_cancelled || asker == sessions_.end()) {
            if (asker == sessions_.end()) {
              next.push_back(closed_its_side(request));
            } else {  // It got nothing, and still asks.
              asker->second.nexts.push_front(request);
              ++asker->second.free;
            }
            if (!is_ours) return;
            tokens_.erase(token);
            back_to_queue(now, at->second, done ? milliseconds{0} : journal_retry,
                          done ? "the consumer went away" : to_string(done.error()));
            schedule(now, next);
            return;
          }
          auto& e2 = at->second;
          NTRACE_ASSERT(e2.at == phase::committing, "the job was being written");
          e2.at = phase::offered;
          e2.deadline = mutated(mutation::handed_is_given_for_good) ? time_point::max()
                                                                    : now + options_.lease;
          next.push_back(wake{e2.deadline});
          next.push_back(
              answer{request, rpc::job{id, e2.row.owner, e2.row.repo, e2.row.sha, done->payload}});
        });
}

/// The run that a document speaks of: the one that its run_id was bound to, else the oldest that
/// was handed to this peer for that commit and of which nobody spoke yet.
queue_fsm::entry* queue_fsm::consumed_by(session_id session, const std::string& address,
                                         const rpc::result_doc& doc, std::size_t& candidates) {
  if (const auto bound = run_ids_.find(doc.run_id); bound != run_ids_.end())
    return by_token(bound->second);
  entry* best = nullptr;
  for (auto& [id, e] : runs_) {
    if (!e.consumer || e.at != phase::offered || e.is_cancelled || !e.consumer->run_id.empty() ||
        e.row.owner != doc.owner || e.row.repo != doc.repo || e.row.sha != doc.sha ||
        (e.session != session && e.consumer->address != address))
      continue;
    ++candidates;
    const auto rank = [&](const entry& x) { return std::pair{x.session != session, x.row.token}; };
    if (!best || rank(e) < rank(*best)) best = &e;
  }
  return best;
}

effects queue_fsm::on_result(time_point now, session_id session, const std::string& address,
                             request_id request, const rpc::result_doc& doc) {
  effects out;
  std::size_t candidates = 0;
  auto* e = consumed_by(session, address, doc, candidates);
  if (!e) {
    // Its answer may have been lost with an earlier connection: what is stored is not refused.
    write(out, {journal::append_doc{"", 0, 0, doc.id, doc.stream, {}}},
          [request, run_id = doc.run_id](time_point, const result<journal::committed>& done,
                                         effects& next) {
            if (done && done->is_known)
              next.push_back(answer{request, rpc::stored{true}});
            else
              next.push_back(answer{
                  request, done ? fail(ec::stale_lease, "run_id " + run_id +
                                                            " holds no lease; its push was given "
                                                            "to somebody else, or has ended")
                                : fail(done.error())});
          });
    return out;
  }
  if (e->row.owner != doc.owner || e->row.repo != doc.repo || e->row.sha != doc.sha) {
    out.push_back(
        answer{request, fail(error{ec::bad_argument,
                                   "repo and commit must be those of run_id " + doc.run_id + ": " +
                                       e->row.owner + "/" + e->row.repo + " " + e->row.sha,
                                   {{"field", "commit"}}})});
    return out;
  }
  if (e->at != phase::offered && !live(request, e->row.token, out)) return out;
  journal::batch ops;
  const bool is_first = e->at == phase::offered;
  if (is_first) bind_consumer(*e, doc.run_id, candidates, ops);
  e->deadline = now + options_.consumer_silence;
  out.push_back(wake{e->deadline});
  if (doc.event) ops.push_back(story(*e, story::step{doc.event}));
  ops.push_back(stored_form(doc, e->row));
  if (mutated(mutation::late_answer_completes_twice))
    std::get<journal::append_doc>(ops.back()).doc += std::to_string(request);
  write(out, std::move(ops),
        [this, request, doc, token = e->row.token, id = e->row.id, is_first](
            time_point then, const result<journal::committed>& done, effects& next) {
          const auto cancels = is_first ? settle_accept(id) : std::vector<request_id>{};
          auto* again = by_token(token);
          if (!done || (done->is_stale && !again)) {
            if (is_first && again) unbind_consumer(then, *again, next);
            next.push_back(
                answer{request, done ? fail(ec::stale_lease, "the lease of run_id " + doc.run_id +
                                                                 " ended before this was stored")
                                     : fail(done.error())});
          } else {
            on_doc_stored(then, again, doc, *done, is_first, request, next);
          }
          if (is_first) do_after_accept(then, id, cancels, next);
        });
  return out;
}

/// The first word about a job is what accept is for a runner of ours.
void queue_fsm::bind_consumer(entry& e, const std::string& run_id, std::size_t candidates,
                              journal::batch& ops) {
  NTRACE_ASSERT(e.at == phase::offered && e.consumer, "a job that nobody spoke of yet");
  NTRACE_ASSERT(run_ids_.count(run_id) == 0, "a run_id names one attempt");
  e.at = phase::held;
  e.is_accepting = true;
  ++e.row.attempts;
  e.row.expired_token = 0;
  e.row.state = run_state::running;
  e.consumer->run_id = run_id;
  run_ids_[run_id] = e.row.token;
  const auto set = [&](run_state state) {
    return journal::set_run{e.row.id, state, e.row.attempts, e.row.token, {}, ""};
  };
  story::accepted accepted{sessions_[e.session].name, options_.attempts, run_id, ""};
  if (candidates > 1)
    accepted.joined = "the oldest of " + std::to_string(candidates) + " that it may be";
  ops = {journal::bind_run_id{e.row.token, run_id}, set(run_state::leased), story(e, accepted),
         set(run_state::running), story(e, story::started{"the consumer's"})};
}

/// The journal refused the first word: the job is handed out as it was before.
void queue_fsm::unbind_consumer(time_point now, entry& e, effects& out) {
  if (!e.consumer || e.at != phase::held) return;
  run_ids_.erase(e.consumer->run_id);
  e.consumer->run_id.clear();
  NTRACE_ASSERT(e.row.attempts > 0, "it counted as an attempt");
  --e.row.attempts;
  e.row.state = run_state::queued;
  e.at = phase::offered;
  e.deadline = now + options_.lease;
  out.push_back(wake{e.deadline});
  if (sessions_.count(e.session) != 0) return;
  tokens_.erase(e.row.token);
  back_to_queue(now, e, milliseconds{0}, "the consumer went away");
  schedule(now, out);
}

void queue_fsm::on_doc_stored(time_point now, entry* e, const rpc::result_doc& doc,
                              const journal::committed& done, bool is_first, request_id request,
                              effects& out) {
  const bool is_bound = e && e->consumer && e->consumer->run_id == doc.run_id;
  if (is_first && is_bound && (done.is_known || done.is_stale)) {
    // Of an attempt that ended, or of a run_id that has another token: this job is still unheard
    // of.
    unbind_consumer(now, *e, out);
    out.push_back(answer{
        request, done.is_known ? result<rpc::answer_value>{rpc::stored{true}}
                               : fail(ec::stale_lease, "run_id " + doc.run_id +
                                                           " belongs to an attempt that ended")});
    return;
  }
  if (done.is_stale) {
    out.push_back(answer{
        request, fail(ec::stale_lease, "run_id " + doc.run_id + " holds no lease any more")});
    return;
  }
  if (!is_bound) {
    out.push_back(answer{request, rpc::stored{done.is_known}});
    return;
  }
  if (!done.is_known) e->journalled_seq = e->sent_seq = done.last_seq;
  auto& lease = *e->consumer;
  if (doc.ended) lease.ended.insert(*doc.ended);
  if (lease.failure.empty()) lease.failure = doc.failure;
  out.push_back(changed{e->row.id});
  if (lease.ended.size() < domain::stream_count || e->at != phase::held || e->is_cancelled) {
    out.push_back(answer{request, rpc::stored{done.is_known}});
    return;
  }
  // The last document is answered when the verdict that it completes is on the disk too.
  end_attempt(
      now, *e,
      {domain::end_cause::verdict, lease.failure.empty() ? verdict::passed : verdict::script_failed,
       lease.failure, request},
      out);
}

void queue_fsm::end_session_of_consumer(time_point now, session_id session, session_state& s,
                                        effects& out) {
  for (const auto request : s.nexts) out.push_back(closed_its_side(request));
  for (auto& [id, e] : runs_)
    if (e.session == session && e.consumer && e.at == phase::held && !e.is_cancelled &&
        !e.is_accepting)
      end_attempt(now, e, consumer_left(), out);
}

void queue_fsm::let_go(entry& e) {
  if (e.consumer) run_ids_.erase(e.consumer->run_id);
  e.consumer.reset();
}

}  // namespace ntrace::dispatcher
