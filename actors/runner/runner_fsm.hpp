#pragma once
// The runner's decisions: which offer is accepted on which worker, what is told to the dispatcher,
// when a zone is emptied and its worker free again. Pure.
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "actors/rpc/messages/runner_messages.hpp"
#include "actors/runner/outbox_fsm.hpp"
#include "actors/runner/zone_pool_fsm.hpp"

namespace ntrace::runner {

/// Call the dispatcher's `accept`; answer by on_accepted, with this effect, or on_not_accepted.
struct accept_offer {
  std::uint64_t token;
  time_point sent_at;  ///< The lease is counted from here: the dispatcher counts from later.
};
struct refuse_offer {
  std::uint64_t token;
  std::string reason;
};
/// Start the attempt's actor on that worker; the lease is held, and its zone must be dead at the
/// end of that unless renew_lease puts it off: by itself, for we may be stopped.
struct begin_attempt {
  rpc::offer offer;
  std::string worker;
  time_point lease_ends{};
};
/// A heartbeat was answered: the zone of that attempt may live on.
struct renew_lease {
  std::uint64_t token;
  time_point lease_ends;
};
enum class cancel_cause {
  lease_runs_out,  ///< The dispatcher has not answered for so long.
  lease_lost,      ///< The dispatcher says that it holds no lease of that token.
  offered_again,   ///< Its run was offered under another token.
  words_lost,      ///< What it says cannot be kept.
  expelled         ///< Its worker was.
};
/// End the attempt as soon as may be; its end follows.
struct cancel_attempt {
  std::uint64_t token;
  cancel_cause cause;
  std::string reason;  ///< For people.
};
/// It ended without a verdict: give the outbox one of infrastructure.
struct lose_attempt {
  std::uint64_t token;
  std::string reason;
};
/// Empty the worker's zone; answer by on_zone_ended.
struct end_zone {
  std::string worker;
};
/// Boot the worker's zone, prove it clean and end it; answer by on_zone_proved.
struct prove_zone {
  std::string worker;
};
/// The worker is enrolled no more: its zone needs no actor.
struct forget_zone {
  std::string worker;
};
/// Call the dispatcher's `heartbeat` with `state`; answer by on_heartbeat, with this effect.
struct send_heartbeat {
  rpc::runner_report state;
  std::vector<std::uint64_t> tokens;  ///< The attempts that it names.
  time_point sent_at;
};
/// Call on_tick() then; it asks for what is due next, so that one timer serves all.
struct look_again {
  time_point at;
};
using runner_effects = std::vector<
    std::variant<accept_offer, refuse_offer, begin_attempt, renew_lease, cancel_attempt,
                 lose_attempt, end_zone, prove_zone, forget_zone, send_heartbeat, look_again>>;

class runner_fsm {
public:
  /// `name`: in hello. `repair`: waits of a worker whose zone broke.
  runner_fsm(std::string name, backoff_policy repair, std::uint64_t seed)
      : name_{std::move(name)}, pool_{repair, seed} {}

  /// `heartbeat` and `lease`: what the dispatcher's hello said.
  runner_effects on_link_up(time_point now, milliseconds heartbeat, milliseconds lease);
  void on_link_lost() { is_up_ = false; }
  runner_effects on_offer(time_point now, const rpc::offer& offer);
  /// An answer that took the whole lease is as none: the run is somebody else's by now.
  runner_effects on_accepted(time_point now, const accept_offer& said);
  runner_effects on_not_accepted(time_point now, std::uint64_t token);
  /// The answer: `stale` are the tokens whose lease the dispatcher does not hold; those of the
  /// others run a whole term from when the heartbeat was sent. A lease that is over stays over.
  runner_effects on_heartbeat(time_point now, const send_heartbeat& said,
                              const std::vector<std::uint64_t>& stale);
  /// The dispatcher, or the outbox, says that the attempt is to end.
  runner_effects on_stale(std::uint64_t token, cancel_cause cause, const std::string& reason);
  /// The attempt has its verdict, which waits in the outbox; its zone can be ended. Also of one
  /// that an earlier runner worked on.
  runner_effects on_attempt_done(const attempt_done& done);
  /// The dispatcher has all of it, or wants none of it.
  void on_delivered(std::uint64_t token) { waiting_.erase(token); }
  /// Without room in the outbox no offer is accepted.
  runner_effects on_room_changed(time_point now, bool has_room);
  /// The attempt's actor is gone, and has perhaps left no verdict.
  runner_effects on_attempt_died(std::uint64_t token, const std::string& reason);
  runner_effects on_zone_ended(time_point now, const std::string& worker, bool is_broken);
  /// `problem` is empty when it was proved clean.
  runner_effects on_zone_proved(time_point now, const std::string& worker,
                                const std::string& problem);
  /// Of one that is enrolled already: its repair is tried at once.
  runner_effects on_enrolled(time_point now, const std::string& worker, std::int64_t at_ms);
  /// With `abort` what runs there is ended. ec::not_enrolled.
  result<runner_effects> on_expel(time_point now, const std::string& worker, bool abort);
  runner_effects on_drain(time_point now, bool draining);
  runner_effects on_tick(time_point now);

  /// What hello, heartbeat and status say.
  rpc::runner_report state(time_point now) const;
  const zone_pool_fsm& pool() const { return pool_; }
  std::size_t attempts() const { return attempts_.size(); }
  /// Attempts whose verdict waits in the outbox.
  std::size_t waiting() const { return waiting_.size(); }
  std::size_t zones_ending() const { return ending_.size(); }
  bool is_up() const { return is_up_; }
  /// Answers to an accept that took the whole lease.
  std::uint64_t late_accepts() const { return late_accepts_; }
  bool is_draining() const { return is_draining_; }

private:
  struct held_attempt {
    rpc::offer offer;
    std::string worker;
    bool is_accepted = false, is_ending = false;
    time_point lease_ends{};  ///< By our own clock: never later than the dispatcher's.
  };
  /// An attempt of the run, or its zone, is still here: the token of an attempt to end first.
  std::optional<std::uint64_t> holds(const std::string& run) const;
  std::size_t free() const { return is_draining_ || !has_room_ ? 0 : pool_.free(); }
  void tell(time_point now, runner_effects& out) const;
  milliseconds margin() const;
  /// False when it ends as late already.
  bool extend(held_attempt& a, time_point sent_at, runner_effects& out) const;
  static time_point zone_ends(const held_attempt& a);
  void end_without_lease(time_point now, runner_effects& out);
  void prove_what_is_due(time_point now, runner_effects& out);
  void forget_if_left(const std::string& worker, runner_effects& out) const;

  std::string name_;
  zone_pool_fsm pool_;
  struct waiting_attempt {
    std::string run;
    domain::verdict verdict = domain::verdict::infrastructure;
  };
  std::map<std::uint64_t, held_attempt> attempts_;    ///< By token.
  std::map<std::uint64_t, waiting_attempt> waiting_;  ///< By token.
  struct ending_zone {
    bool is_broken = false;
    std::string run;
  };
  std::map<std::string, ending_zone> ending_;       ///< By worker: zones that are being emptied.
  milliseconds heartbeat_{10'000}, lease_{30'000};  // docs/protocol.md, "Leases"
  time_point beat_at_ = time_point::max();
  std::uint64_t late_accepts_ = 0;
  bool is_up_ = false, is_draining_ = false, has_room_ = true;
};

}  // namespace ntrace::runner
