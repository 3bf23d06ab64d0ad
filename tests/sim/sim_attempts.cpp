// The part of a simulated runner that does the work: attempts' actors, and the zones that they use.
#include "config/outage.hpp"
#include "config/overload.hpp"
#include "tests/sim/sim_runner.hpp"

namespace ntrace::sim {

using namespace runner;
using nlohmann::json;

namespace {

/// What the script of a run does is the run's own: the same at each attempt.
std::uint64_t fate_of(const std::string& run) {
  std::uint64_t out = 14695981039346656037ull;  // FNV-1a
  for (const char c : run) out = (out ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return out >> 20;
}

bool is_of_zone(step what) {
  return what != step::profiler && what != step::fetch && what != step::capture;
}

}  // namespace

void sim_runner::bring_up_attempt(std::uint64_t token) {
  const auto spec = specs_.extract(token);
  if (!spec) return;  // The runner that asked for it is gone.
  const auto& e = spec.mapped();
  attempts_.insert_or_assign(token, attempt{attempt_fsm{e.worker}, e.offer.run, e.worker, 0, {}});
  to_runner_.tell([this, token] {
    born_.insert(token);
    if (const auto early = early_cancels_.extract(token)) cancel(token, early.mapped());
  });
  perform(token, attempts_.at(token).fsm.on_start(now()));
}

/// The actor is gone, and what its zone does for it is broken off.
void sim_runner::end_attempt(std::uint64_t token) {
  const auto gone = attempts_.extract(token);
  if (!gone) return;
  world_.note(about(fact_kind::attempt_over, token, ""));
  const auto at = zones_.find(gone.mapped().worker);
  if (at != zones_.end() && at->second.token == token)
    break_job(at->first, {ec::cancelled, "its attempt ended", {}});
}

void sim_runner::perform(std::uint64_t token, const attempt_effects& todo) {
  for (const auto& one : todo) {
    const auto at = attempts_.find(token);
    if (at == attempts_.end()) return;
    auto& a = at->second;
    const auto say_chunk = [&] {
      const auto data = std::to_string(token) + ":" + std::to_string(++a.chunks);
      to_outbox_.tell(
          [this, token, data] { perform(outbox_->on_chunk(token, domain::stream::out, data)); });
    };
    std::visit(
        overload{[&](const runner::perform& e) { do_step(token, e.what); },
                 [&](const report&) { say_chunk(); }, [&](const notice&) { say_chunk(); },
                 [&](const started& e) {
                   to_outbox_.tell([this, token, zone = e.zone] {
                     perform(outbox_->on_started({token, zone}, domain::document{{{"ok", true}}}));
                   });
                 },
                 [&](const finish& e) { finish_attempt(token, a, e); }},
        one);
  }
}

void sim_runner::finish_attempt(std::uint64_t token, const attempt& a, const finish& e) {
  world_.met("attempt." + std::string{to_string(e.how)});
  if (e.lost_to) {
    world_.met("attempt.outage");
    auto met = about(fact_kind::outage_met, token, "");
    met.text = e.reason;
    world_.note(std::move(met));
  }
  const rpc::finish said{token,     e.how, e.reason, domain::document{{{"chunks", a.chunks}}},
                         e.lost_to, {}};
  to_outbox_.tell([this, said, is_broken = e.zone_is_broken] {
    perform(outbox_->on_finished(said, is_broken));
  });
  attempt_sup_.die("attempt_" + std::to_string(token), {supervision::exit_kind::normal, ""});
}

step_outcome sim_runner::outcome_of(const attempt& a, step what) {
  step_outcome out;
  const auto fate = fate_of(a.run);
  const auto chance = random_.below(100);
  switch (what) {
    case step::rollback:
      out.is_clean = chance >= 3;
      if (chance >= 97) out.failed = {ec::zone_failed, "rollback failed", {}};
      break;
    case step::fetch:
      out.package_json = fate % 11 == 0 ? R"({"name":"x"})"
                         : fate % 2 == 0
                             ? R"({"scripts":{"benchmark":"x"},"dependencies":{"a":"1"}})"
                             : R"({"scripts":{"test":"x"}})";
      if (chance < 3) out.failed = {ec::source_failed, "half of it came", {}};
      if (fate % 19 == 0) out.failed = {ec::not_found, "no such commit", {}};
      if (world_.now() < world_.forge_back)
        out.failed = to_error({"forge", outage_cause::refused, "nobody listens"});
      break;
    case step::install:
      if (fate % 13 == 0) out.failed = {ec::install_failed, "npm", {}};
      if (world_.now() < world_.registry_back)
        out.failed = to_error({"registry", outage_cause::name_unknown, "no address"});
      break;
    case step::run:
      if (fate % 5 == 0) out.failed = {ec::script_failed, "exit 1", {}};
      if (fate % 17 == 0) out.failed = {ec::timed_out, "too long", {}};
      break;
    case step::profiler:
    case step::capture:
    case step::fold:
      if (chance < 5) out.failed = {ec::profile_failed, "perf", {}};
      break;
    case step::unpack:
      break;
  }
  return out;
}

void sim_runner::do_step(std::uint64_t token, step what) {
  auto& a = attempts_.at(token);
  const auto number = next_number_++;
  a.pending[what] = number;
  const auto outcome = outcome_of(a, what);
  if (!is_of_zone(what))
    return after_between(1000, 150'000, [this, token, what, number, outcome] {
      end_step(token, what, number, outcome);
    });
  const auto shared = std::make_shared<step_outcome>(outcome);
  ask_zone(a.worker, {token, what, shared, {}},
           [this, token, what, number, shared](const result<json>& done) {
             if (!done) *shared = {{ec::zone_failed, done.error().message, {}}};
             end_step(token, what, number, *shared);
           });
}

void sim_runner::end_step(std::uint64_t token, step what, std::uint64_t number,
                          const step_outcome& outcome) {
  const auto at = attempts_.find(token);
  if (at == attempts_.end()) return;
  const auto pending = at->second.pending.find(what);
  if (pending == at->second.pending.end() || pending->second != number) return;
  at->second.pending.erase(pending);
  world_.met("step." + std::string{to_string(what)} +
             (outcome.failed.code == ec::none ? ".ok" : ".failed"));
  perform(token, at->second.fsm.on_done(now(), what, outcome));
}

void sim_runner::cancel(std::uint64_t token, const std::string& reason) {
  const auto at = attempts_.find(token);
  if (at == attempts_.end()) return;
  at->second.fsm.on_cancel(reason);
  const error why{ec::cancelled, reason, {}};
  const auto pending = at->second.pending;
  for (const auto& [what, number] : pending) {
    if (is_of_zone(what)) {
      break_job(at->second.worker, why);
      continue;
    }
    step_outcome out;
    out.failed = why;
    after_between(100, 20'000, [this, token, what = what, number = number, out] {
      end_step(token, what, number, out);
    });
  }
}

void sim_runner::kill_zone() {
  if (!is_alive_ || attempts_.empty()) return;
  world_.met("zone.killed");
  break_job(attempts_.begin()->second.worker, {ec::init_died, "init died", {}});
}

void sim_runner::kill_attempt() {
  if (!is_alive_ || attempts_.empty()) return;
  world_.met("attempt.killed");
  const auto token = attempts_.begin()->first;
  const char* why = "std::runtime_error: as told";
  attempt_sup_.die("attempt_" + std::to_string(token), {supervision::exit_kind::failed, why});
  after_between(1, 100, tree_.only_for("runner", [this, token, why] {
    perform(runner_->on_attempt_died(token, why));
  }));
}

// Zones' actors: one job after the other.

void sim_runner::ask_zone(const std::string& worker, zone_job job, const reply& then) {
  to_zones_.at("zone_" + worker)
      ->ask(
          [this, worker, job](const reply& answer) {
            auto mine = job;
            mine.answer = answer;
            auto& jobs = zones_.at(worker).jobs;
            jobs.push_back(std::move(mine));
            if (jobs.size() == 1) begin_job(worker);
          },
          then);
}

void sim_runner::begin_job(const std::string& worker) {
  auto& z = zones_.at(worker);
  const auto& job = z.jobs.front();
  z.number = next_number_++;
  std::uint64_t longest_us = 150'000;
  if (!job.what) {
    longest_us = 100'000;
  } else if (*job.what == step::rollback) {
    // It ends first what an attempt has left that is over.
    if (z.token != 0 && attempts_.count(z.token) == 0)
      world_.note(about(fact_kind::zone_ended, z.token, worker));
    z.token = job.token;
    const auto lease = leases_.find(job.token);
    z.is_dead = lease != leases_.end() && now() >= lease->second;
    if (z.token != 0 && !z.is_dead) world_.note(about(fact_kind::zone_begun, job.token, worker));
  } else if (z.token != job.token || z.is_dead) {
    job.outcome->failed = {z.is_dead ? ec::stale_lease : ec::init_died, "the zone is down", {}};
    longest_us = 1000;
  } else {
    world_.note(about(fact_kind::zone_used, job.token, worker));
    if (*job.what == step::run) longest_us = script_us_max_;
  }
  const auto number = z.number;
  after_between(1000, longest_us, zone_sup_.only_for("zone_" + worker, [this, worker, number] {
    end_job(worker, number);
  }));
}

void sim_runner::end_job(const std::string& worker, std::uint64_t number) {
  auto& z = zones_.at(worker);
  if (z.jobs.empty() || z.number != number) return;
  const auto job = std::move(z.jobs.front());
  z.jobs.pop_front();
  z.number = 0;
  if (job.what && z.token == job.token && z.is_dead)
    job.outcome->failed = {ec::stale_lease, "the zone ended with its lease", {}};
  result<json> answer{json()};
  if (!job.what) {
    if (z.token != 0) world_.note(about(fact_kind::zone_ended, z.token, worker));
    z.token = 0;
    if (random_.below(50) == 0) answer = fail(ec::zone_failed, "its cgroup is not empty");
  } else if (z.token != 0 && *job.what == step::rollback && job.outcome->failed.code == ec::none &&
             job.outcome->is_clean) {
    world_.note(about(fact_kind::zone_proved, job.token, worker));
  }
  if (!z.jobs.empty()) begin_job(worker);
  job.answer(answer);
}

/// The zone of an attempt goes by this alone: its own, and on when the runner is stopped.
void sim_runner::hold_lease(std::uint64_t token, time_point until) {
  const auto held = leases_.find(token);
  if (held != leases_.end() && now() >= held->second) return;  // It is over for good.
  leases_[token] = until;
  if (until == time_point::max()) return;
  beside_at(until, [this, token] {
    if (const auto at = leases_.find(token); at != leases_.end() && now() >= at->second)
      end_without_lease(token);
  });
}

void sim_runner::end_without_lease(std::uint64_t token) {
  for (auto& [worker, z] : zones_) {
    if (z.token != token || z.is_dead) continue;
    z.is_dead = true;
    world_.met(is_stopped() ? "zone.lease_over_while_stopped" : "zone.lease_over");
    world_.note(about(fact_kind::zone_expired, token, worker));
    break_job(worker, {ec::stale_lease, "the zone ended with its lease", {}});
  }
}

/// What it does now ends soon and has failed; its own end and a rollback go on.
void sim_runner::break_job(const std::string& worker, const error& why) {
  const auto at = zones_.find(worker);
  if (at == zones_.end() || at->second.jobs.empty()) return;
  const auto& job = at->second.jobs.front();
  if (!job.what || *job.what == step::rollback) return;
  after_between(100, 20'000,
                zone_sup_.only_for("zone_" + worker, [this, worker, number = at->second.number, why,
                                                      outcome = job.outcome] {
                  if (zones_.at(worker).number != number) return;
                  outcome->failed = why;
                  end_job(worker, number);
                }));
}

}  // namespace ntrace::sim
