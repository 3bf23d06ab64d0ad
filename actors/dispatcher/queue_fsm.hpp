#pragma once
// The dispatcher's decisions: which run is offered to which runner, who holds the lease, what a
// lost attempt leads to. Nothing is answered or offered before the journal has it. Pure.
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "actors/dispatcher/intake_fsm.hpp"
#include "actors/dispatcher/queue_status.hpp"
#include "actors/dispatcher/waiting_runs.hpp"
#include "actors/domain/story.hpp"
#include "actors/journal/journal_types.hpp"
#include "actors/rpc/messages/answers.hpp"
#include "config/backoff.hpp"
#include "config/mutation.hpp"

namespace ntrace::dispatcher {

using domain::outage_record;
using domain::outage_record_ptr;
using domain::verdict;

struct queue_options {
  milliseconds lease{30'000};
  milliseconds offer{2'000};
  milliseconds consumer_silence{600'000};  ///< Of a consumer of the old protocol.
  unsigned attempts = 5;
  backoff_policy backoff;
  milliseconds outage_patience{86'400'000};  ///< For what cannot be reached.
  std::string source_template = "github:{owner}/{repo}@{sha}";
};

using session_id = std::uint64_t;  ///< A connection of a runner or consumer; never reused.

struct commit {
  std::uint64_t tag;
  journal::batch ops;
};  ///< Answer by on_committed.
struct answer {
  request_id request;
  result<rpc::answer_value> value;
};
struct offer {
  session_id session;
  rpc::offer run;
};  ///< Call the runner's `offer`.
struct abort_attempt {
  session_id session;
  std::uint64_t token;
};  ///< Call the runner's `abort`.
struct wake {
  time_point at;
};  ///< Call on_tick() then; it asks for what is due next, so that one timer serves all.
struct changed {
  std::string run;
};  ///< Watchers look again.
using effects = std::vector<std::variant<commit, answer, offer, abort_attempt, wake, changed>>;

class queue_fsm {
public:
  queue_fsm(queue_options options, std::uint64_t highest_token, std::uint64_t seed, push_gate& gate)
      : options_{std::move(options)},
        gate_{gate},
        waiting_{source_template{options_.source_template}},
        last_token_{mutated(mutation::token_counter_in_memory) ? 0 : highest_token},
        random_{seed} {}

  /// Some of the journal's open runs at start, before anything else; leases get one whole term from
  /// now. `wall_ms` counts for deadlines only: how much of one is left over a restart.
  effects on_recovered(time_point now, std::int64_t wall_ms, std::vector<run_row> runs);
  /// All of them were given.
  void on_recovery_end() { gate_.end_recovery(); }
  /// Takes in what has come through the gate. Before anything else that may be about it.
  effects on_pushed(time_point now);
  effects on_committed(time_point now, std::uint64_t tag,
                       const result<journal::committed>& outcome);

  // A runner's calls. docs/protocol.md, "Runner's calls".
  effects on_hello(time_point now, session_id session, request_id request,
                   const rpc::runner_report& said);
  effects on_accept(time_point now, session_id session, request_id request,
                    const rpc::about_token& said);
  effects on_refuse(time_point now, session_id session, request_id request,
                    const rpc::refuse& said);
  effects on_started(time_point now, request_id request, const rpc::started& said);
  effects on_heartbeat(time_point now, session_id session, request_id request,
                       const rpc::runner_report& said);
  effects on_append(time_point now, request_id request, rpc::append said);
  effects on_finish(time_point now, request_id request, const rpc::finish& said);
  effects on_session_gone(time_point now, session_id session);
  /// The port was started (again): sessions below `first` are gone.
  effects on_port_opened(time_point now, session_id first);

  // Consumers of the old protocol; docs/protocol.md. `address`: the peer's host.
  /// Answered with a job when there is one for it.
  effects on_next(time_point now, session_id session, const std::string& address,
                  request_id request);
  /// Answered when it is stored.
  effects on_result(time_point now, session_id session, const std::string& address,
                    request_id request, const rpc::result_doc& doc);

  effects on_cancel(time_point now, request_id request, const std::string& run);
  /// `row`: the run as the journal has it; only a terminal one is brought back.
  effects on_requeue(time_point now, request_id request, run_row row);
  effects on_tick(time_point now);
  /// By request: it outlives a restart.
  effects on_drain(time_point now, request_id request, bool draining);
  /// As the journal has it, at start.
  void on_drain_recovered(bool draining) {
    set_draining(draining && !mutated(mutation::drain_in_memory));
  }
  /// This process stops: it offers nothing more and takes no pushes.
  void on_stopping();

  /// What a waiting run waits for, in a sentence; empty for one that is not open.
  std::string waits_for(time_point now, const std::string& run) const;
  queue_status status(time_point now) const;
  std::size_t open_runs() const { return runs_.size() + waiting_.size(); }
  /// Attempts that hold or are being given a lease.
  std::size_t held() const;

private:
  /// How long a run waits after the journal refused a write of our own about it.
  static constexpr milliseconds journal_retry{1000};
  enum class phase { waiting, committing, offered, held, ending, reviving };
  /// Of an attempt of a consumer of the old protocol.
  struct consumer_lease {
    std::string address;
    std::string run_id;  ///< What the consumer calls its run; empty until it spoke of it.
    std::set<domain::stream> ended;
    std::string failure;  ///< The first error among its events.
  };
  struct entry {
    run_row row;
    phase at = phase::waiting;
    time_point not_before{};  ///< Of a retry.
    time_point deadline{};    ///< Of the offer or the lease.
    time_point begun{};       ///< When the live attempt was offered, or this process found it.
    session_id session = 0;
    std::uint64_t journalled_seq = 0;  ///< Highest chunk that is on disk.
    std::uint64_t sent_seq = 0;        ///< Highest chunk given to the journal.
    bool is_cancelled = false;
    bool is_accepting = false;  ///< Its accept is being written, and may fail: nothing ends it.
    std::vector<request_id> cancels;  ///< Further wishes that wait for what is being written.
    std::string last_reason;
    std::optional<consumer_lease> consumer;
  };
  struct session_state {
    std::string name;
    std::uint64_t workers = 0, free = 0;
    std::string worker_text;  ///< "3 enrolled, 2 busy, 1 repairing", for people.
    // Of a consumer of the old protocol: free counts its open requests.
    bool is_consumer = false;
    std::string address;
    std::deque<request_id> nexts;
  };
  /// How an attempt ended, and who waits for an answer to that (0: nobody).
  struct attempt_end {
    domain::end_cause cause = domain::end_cause::verdict;
    verdict how = verdict::infrastructure;
    std::string reason;
    request_id request = 0;
    domain::document receipt{};
    std::optional<outage> lost_to{};
  };
  using continuation = std::function<void(time_point, const result<journal::committed>&, effects&)>;

  void write(effects& out, journal::batch ops, continuation then);
  /// The accept of `run` is written, or failed: gives the cancels that waited for that, which
  /// do_after_accept() then takes, as soon as the entry is what it is to be.
  std::vector<request_id> settle_accept(const std::string& run);
  void do_after_accept(time_point now, const std::string& run,
                       const std::vector<request_id>& cancels, effects& out);
  void set_draining(bool is);
  void schedule(time_point now, effects& out);
  /// Moves what waited for its retry to those that may be offered.
  void release_due(time_point now);
  /// The entry of an open run, also of one that only waits.
  entry* activate(const std::string& run);
  entry& activate(run_row row);
  void watch_deadline(time_point at, const std::string& run, effects& out);
  void end_overdue(time_point now, const std::string& run, effects& out);
  void end_waiting(entry& e, run_state state, std::optional<verdict> how, const std::string& reason,
                   const domain::story::line& told, request_id request, effects& out);
  /// The first step of every offer: nobody else is given the run from now on.
  std::uint64_t give_token(time_point now, session_id session, entry& e);
  void offer_to(time_point now, session_id session, entry& e, effects& out);
  entry* by_token(std::uint64_t token);
  void hand_to(time_point now, session_id session, entry& e, effects& out);
  entry* consumed_by(session_id session, const std::string& address, const rpc::result_doc& doc,
                     std::size_t& candidates);
  void bind_consumer(entry& e, const std::string& run_id, std::size_t candidates,
                     journal::batch& ops);
  void unbind_consumer(time_point now, entry& e, effects& out);
  void on_doc_stored(time_point now, entry* e, const rpc::result_doc& doc,
                     const journal::committed& done, bool is_first, request_id request,
                     effects& out);
  void end_session(time_point now, session_id session, effects& out);
  static attempt_end consumer_left() {
    return {domain::end_cause::peer_left, verdict::infrastructure,
            "the consumer's connection closed"};
  }
  void end_session_of_consumer(time_point now, session_id session, session_state& s, effects& out);
  void let_go(entry& e);
  /// What a runner says of its attempts, in hello and heartbeats; gives the tokens that are stale.
  std::vector<std::uint64_t> hear_attempts(time_point now, session_id session,
                                           const std::vector<rpc::known_attempt>& attempts,
                                           effects& out);
  bool may_revive(const std::string& run, std::uint64_t token) const;
  void revive(entry& e, std::uint64_t token, session_id session, effects& out);
  /// The entry whose live attempt has that token, or an answer that says stale_lease.
  entry* live(request_id request, std::uint64_t token, effects& out);
  void end_attempt(time_point now, entry& e, attempt_end end, effects& out);
  /// What an attempt's end makes of its run.
  struct attempt_outcome {
    run_state next = run_state::queued;
    milliseconds wait{0};       ///< Of one that is queued again.
    outage_record_ptr outages;  ///< From now on.
    std::string reason;
  };
  attempt_outcome outcome_of(time_point now, const entry& e, const attempt_end& end);
  /// `tried_for`: how long the attempt took that met it.
  outage_record_ptr outage_met(const outage_record_ptr& before, milliseconds tried_for,
                               const outage& why);
  static outage_record_ptr outage_over(const outage_record_ptr& before);
  static outage_record_ptr outage_stamped(const outage_record_ptr& r, std::int64_t at_ms);
  static milliseconds left_to_wait(const outage_record_ptr& r, std::int64_t wall_ms);
  std::string outage_end_reason(const outage_record& r) const;
  std::string outage_text(time_point now, const entry& e) const;
  std::vector<queue_status::host> outages(time_point now) const;
  void back_to_queue(time_point now, entry& e, milliseconds wait, const std::string& reason);
  static void end_cancels(entry& e, const result<rpc::answer_value>& outcome, effects& out);
  void drop(const std::string& run);
  static journal::event story(const entry& e, const domain::story::line& line);

  queue_options options_;
  push_gate& gate_;
  std::map<std::string, entry> runs_;  ///< Worked on, changing, or waiting for a retry.
  waiting_runs waiting_;               ///< All others that are open.
  std::set<std::pair<time_point, std::string>> retries_, deadlines_;
  std::map<std::string, time_point> deadline_of_;  ///< Of open runs: their place in deadlines_.
  std::map<std::uint64_t, std::string> tokens_;    ///< Live token → run.
  std::map<std::string, std::uint64_t> run_ids_;   ///< A consumer's run_id → live token.
  std::map<session_id, session_state> sessions_;
  std::map<std::uint64_t, continuation> pending_;
  std::uint64_t next_tag_ = 1, last_token_;
  random_source random_;
  bool is_draining_ = false, is_stopping_ = false;
};

}  // namespace ntrace::dispatcher
