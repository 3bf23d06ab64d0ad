#include "actors/runner/runner_fsm.hpp"

#include <algorithm>
#include <utility>

#include "config/assert.hpp"
#include "config/mutation.hpp"

namespace ntrace::runner {
namespace {

/// An attempt ends this part of its lease early, so that it is over when the dispatcher gives the
/// run to another: room for two clocks that drift apart and for the kill. docs/protocol.md,
/// "Leases"
constexpr int margin_divisor = 6;

}  // namespace

rpc::runner_report runner_fsm::state(time_point now) const {
  rpc::runner_report out{rpc::protocol_version, name_, pool_.size(), free(), pool_.text(now), {}};
  for (const auto& [token, a] : attempts_)
    if (a.is_accepted) out.attempts.push_back({token, a.offer.run, a.worker, {}});
  // Their leases go on until the dispatcher has what the outbox holds of them.
  for (const auto& [token, w] : waiting_) out.attempts.push_back({token, w.run, "", w.verdict});
  return out;
}

/// A hello is given the state of its own moment; so nothing is told while the link is down.
void runner_fsm::tell(time_point now, runner_effects& out) const {
  if (!is_up_) return;
  send_heartbeat beat{state(now), {}, now};
  for (const auto& [token, a] : attempts_)
    if (a.is_accepted) beat.tokens.push_back(token);
  out.push_back(std::move(beat));
}

milliseconds runner_fsm::margin() const {
  return mutated(mutation::no_lease_margin) ? milliseconds{0} : lease_ / margin_divisor;
}

bool runner_fsm::extend(held_attempt& a, time_point sent_at, runner_effects& out) const {
  const bool is_later = sent_at + lease_ - margin() > a.lease_ends;
  if (is_later) a.lease_ends = sent_at + lease_ - margin();
  out.push_back(look_again{a.lease_ends});
  return is_later;
}

/// What the zone is told.
time_point runner_fsm::zone_ends(const held_attempt& a) {
  return mutated(mutation::zone_ignores_its_lease) ? time_point::max() : a.lease_ends;
}

void runner_fsm::end_without_lease(time_point now, runner_effects& out) {
  for (auto& [token, a] : attempts_) {
    if (!a.is_accepted || now < a.lease_ends || std::exchange(a.is_ending, true)) continue;
    out.push_back(cancel_attempt{token, cancel_cause::lease_runs_out,
                                 "its lease runs out: the dispatcher has not answered for " +
                                     std::to_string(lease_.count()) + " ms"});
  }
}

void runner_fsm::prove_what_is_due(time_point now, runner_effects& out) {
  for (auto& worker : pool_.on_tick(now)) out.push_back(prove_zone{std::move(worker)});
  if (const auto at = pool_.next_wake()) out.push_back(look_again{*at});
}

void runner_fsm::forget_if_left(const std::string& worker, runner_effects& out) const {
  if (!pool_.find(worker)) out.push_back(forget_zone{worker});
}

runner_effects runner_fsm::on_link_up(time_point now, milliseconds heartbeat, milliseconds lease) {
  runner_effects out;
  is_up_ = true;
  heartbeat_ = heartbeat;
  lease_ = lease;
  beat_at_ = now + heartbeat_;
  tell(now, out);
  out.push_back(look_again{beat_at_});
  return out;
}

std::optional<std::uint64_t> runner_fsm::holds(const std::string& run) const {
  for (const auto& [token, a] : attempts_)
    if (a.offer.run == run) return token;
  for (const auto& [worker, e] : ending_)
    if (e.run == run) return 0;
  return {};
}

runner_effects runner_fsm::on_offer(time_point now, const rpc::offer& offer) {
  runner_effects out;
  const auto token = offer.token;
  if (attempts_.count(token) != 0) return out;  // Heard twice.
  if (is_draining_) return {refuse_offer{token, "draining"}};
  if (!has_room_) return {refuse_offer{token, "the outbox is full"}};
  if (const auto older = holds(offer.run)) {
    // Its zone is destroyed before another attempt of the run starts, wherever that is offered.
    out = on_stale(*older, cancel_cause::offered_again,
                   "token " + std::to_string(token) + " was offered for its run");
    out.push_back(refuse_offer{token, "an older attempt of run " + offer.run + " still ends here"});
    return out;
  }
  const auto worker = pool_.on_acquire(offer.run);
  if (!worker) return {refuse_offer{token, "no worker is free: " + pool_.text(now)}};
  attempts_[token] = {offer, *worker, false, false, now};
  out.push_back(accept_offer{token, now});
  if (mutated(mutation::offer_counts_as_accepted))
    for (auto& one : on_accepted(now, {token, now})) out.push_back(std::move(one));
  return out;
}

/// The zone starts only now that the dispatcher has confirmed the lease.
runner_effects runner_fsm::on_accepted(time_point now, const accept_offer& said) {
  runner_effects out;
  const auto at = attempts_.find(said.token);
  if (at == attempts_.end() || at->second.is_accepted) return out;
  if (now >= said.sent_at + lease_ - margin()) {
    ++late_accepts_;
    return on_not_accepted(now, said.token);
  }
  NTRACE_ASSERT(pool_.find(at->second.worker), "its worker is kept for it");
  at->second.is_accepted = true;
  extend(at->second, said.sent_at, out);
  out.push_back(begin_attempt{at->second.offer, at->second.worker, zone_ends(at->second)});
  return out;
}

runner_effects runner_fsm::on_not_accepted(time_point now, std::uint64_t token) {
  runner_effects out;
  const auto at = attempts_.find(token);
  if (at == attempts_.end() || at->second.is_accepted) return out;
  const auto worker = at->second.worker;
  attempts_.erase(at);
  if (!mutated(mutation::pending_counter_leaks)) pool_.on_release(now, worker, false);
  forget_if_left(worker, out);
  tell(now, out);
  return out;
}

runner_effects runner_fsm::on_heartbeat(time_point now, const send_heartbeat& said,
                                        const std::vector<std::uint64_t>& stale) {
  runner_effects out;
  for (const auto token : said.tokens) {
    const auto at = attempts_.find(token);
    if (at == attempts_.end() || now >= at->second.lease_ends ||
        std::find(stale.begin(), stale.end(), token) != stale.end())
      continue;
    if (extend(at->second, said.sent_at, out))
      out.push_back(renew_lease{token, zone_ends(at->second)});
  }
  for (const auto token : stale)
    for (auto& one :
         on_stale(token, cancel_cause::lease_lost, "the dispatcher gave the lease away"))
      out.push_back(std::move(one));
  return out;
}

runner_effects runner_fsm::on_stale(std::uint64_t token, cancel_cause cause,
                                    const std::string& reason) {
  runner_effects out;
  if (const auto at = attempts_.find(token); at != attempts_.end() && at->second.is_accepted)
    out.push_back(cancel_attempt{token, cause, reason});
  return out;
}

runner_effects runner_fsm::on_attempt_done(const attempt_done& done) {
  runner_effects out;
  waiting_[done.token] = {done.run, done.verdict};
  const auto at = attempts_.find(done.token);
  if (at == attempts_.end()) return out;
  const auto worker = at->second.worker;
  if (mutated(mutation::failed_run_keeps_its_worker) &&
      done.verdict == domain::verdict::script_failed)
    return out;
  ending_[worker] = {done.zone_is_broken, at->second.offer.run};
  NTRACE_ASSERT(ending_.size() <= pool_.size(), "each zone that ends is a worker's");
  attempts_.erase(at);
  if (done.clean) pool_.on_receipt(worker, done.clean);
  // The zone is emptied first; only then is its worker free.
  out.push_back(end_zone{worker});
  return out;
}

runner_effects runner_fsm::on_attempt_died(std::uint64_t token, const std::string& reason) {
  runner_effects out;
  if (attempts_.count(token) != 0)
    out.push_back(lose_attempt{token, "the attempt's actor ended: " + reason});
  return out;
}

runner_effects runner_fsm::on_zone_ended(time_point now, const std::string& worker,
                                         bool is_broken) {
  runner_effects out;
  const auto at = ending_.find(worker);
  if (at == ending_.end()) return out;
  pool_.on_release(now, worker, at->second.is_broken || is_broken);
  ending_.erase(at);
  forget_if_left(worker, out);
  prove_what_is_due(now, out);
  tell(now, out);
  return out;
}

runner_effects runner_fsm::on_zone_proved(time_point now, const std::string& worker,
                                          const std::string& problem) {
  runner_effects out;
  pool_.on_proved(now, worker, problem);
  prove_what_is_due(now, out);
  tell(now, out);
  return out;
}

runner_effects runner_fsm::on_enrolled(time_point now, const std::string& worker,
                                       std::int64_t at_ms) {
  runner_effects out;
  pool_.on_enroll(now, worker, at_ms);
  prove_what_is_due(now, out);
  tell(now, out);
  return out;
}

result<runner_effects> runner_fsm::on_expel(time_point now, const std::string& worker, bool abort) {
  if (auto gone = pool_.on_expel(worker); !gone) return fail(gone.error());
  runner_effects out;
  if (abort)
    for (const auto& [token, a] : attempts_)
      if (a.worker == worker && a.is_accepted)
        out.push_back(cancel_attempt{token, cancel_cause::expelled, "the worker was expelled"});
  forget_if_left(worker, out);
  tell(now, out);
  return out;
}

runner_effects runner_fsm::on_drain(time_point now, bool draining) {
  runner_effects out;
  is_draining_ = draining;
  tell(now, out);
  return out;
}

runner_effects runner_fsm::on_room_changed(time_point now, bool has_room) {
  runner_effects out;
  has_room_ = has_room;
  tell(now, out);
  return out;
}

runner_effects runner_fsm::on_tick(time_point now) {
  runner_effects out;
  end_without_lease(now, out);
  prove_what_is_due(now, out);
  if (is_up_ && now >= beat_at_) {
    beat_at_ = now + heartbeat_;
    tell(now, out);
  }
  // Who looks has one timer, which this tick has used up.
  auto next = is_up_ ? beat_at_ : time_point::max();
  for (const auto& [token, a] : attempts_)
    if (a.is_accepted && !a.is_ending) next = std::min(next, a.lease_ends);
  if (next != time_point::max()) out.push_back(look_again{next});
  return out;
}

}  // namespace ntrace::runner
