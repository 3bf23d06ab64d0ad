// The part of a simulated runner that speaks with the dispatcher: the runner's actor and its
// outbox.
#include "config/overload.hpp"
#include "tests/sim/sim_runner.hpp"

namespace ntrace::sim {

using namespace runner;
using nlohmann::json;

namespace {

constexpr backoff_policy repair{milliseconds{100}, milliseconds{5000}};

}  // namespace

// The runner's actor.

void sim_runner::bring_up_runner() {
  timer_ = {};
  runner_.emplace(name(), repair, random_.next());
  early_cancels_.clear();
  specs_.clear();
  born_.clear();
  asked_for_hello_.clear();
  is_ready_ = false;
  to_outbox_.tell(
      [this] { perform(outbox_->on_attempts_lost("the runner's actor was restarted")); });
  const auto left = std::make_shared<unsigned>(workers_);
  for (unsigned i = 0; i < workers_; ++i) {
    const auto worker = "z" + std::to_string(i);
    to_zone_sup_.ask(
        [this, worker](const reply& answer) {
          zone_sup_.add("zone_" + worker, [answer](const result<std::string>& added) {
            // A runner that was restarted finds its zones running.
            const bool is_there = added || added.error().code == ec::already_started;
            answer(is_there ? result<json>{json()} : fail(added.error()));
          });
        },
        tree_.only_for("runner", [this, worker, left](const result<json>& added) {
          if (!added)
            return tree_.die("runner", {supervision::exit_kind::failed, added.error().message});
          perform(runner_->on_enrolled(now(), worker, 0));
          if (--*left != 0) return;
          is_ready_ = true;
          for (const auto& answer : std::exchange(asked_for_hello_, {}))
            answer(rpc::to_json(runner_->state(now())));
        }));
  }
}

void sim_runner::call(const std::string& method, json args, const reply& then) {
  to_link_.ask([this, method,
                args = std::move(args)](const reply& answer) { link_.call(method, args, answer); },
               then);
}

void sim_runner::serve(const std::string& method, const json& args, const reply& answer) {
  if (method == "offer") {
    const auto offer = rpc::parse_offer(args);
    if (!offer) return answer(fail(offer.error()));
    perform(runner_->on_offer(now(), *offer));
  } else {
    const auto aborted = rpc::parse_about_token(args);
    if (!aborted) return answer(fail(aborted.error()));
    stale(aborted->token);
  }
  answer(json());
}

void sim_runner::note_stale(std::uint64_t token) {
  if (attempts_.count(token) != 0) world_.note(about(fact_kind::told_stale, token, ""));
  world_.met("runner.stale");
}

void sim_runner::stale(std::uint64_t token) {
  note_stale(token);
  perform(runner_->on_stale(token, cancel_cause::lease_lost, "stale"));
}

void sim_runner::begin(const begin_attempt& e) {
  const auto token = e.offer.token;
  specs_.insert_or_assign(token, e);
  hold_lease(token, e.lease_ends);
  to_outbox_.tell([this, token, run = e.offer.run] { perform(outbox_->on_begun(token, run)); });
  to_attempt_sup_.ask(
      [this, token](const reply& answer) {
        attempt_sup_.add("attempt_" + std::to_string(token),
                         [answer](const result<std::string>& added) {
                           answer(added ? result<json>{json()} : fail(added.error()));
                         });
      },
      tree_.only_for("runner", [this, token](const result<json>& added) {
        if (added) return;
        early_cancels_.erase(token);
        perform(runner_->on_attempt_died(token, added.error().message));
      }));
}

void sim_runner::perform(const runner_effects& todo) {
  const auto by_runner = [this](auto what) { return tree_.only_for("runner", what); };
  for (const auto& one : todo) {
    std::visit(
        overload{[&](const accept_offer& e) {
                   call("accept", rpc::to_json(rpc::about_token{e.token}),
                        by_runner([this, e](const auto& a) {
                          if (!a) {
                            world_.met("runner.not_accepted");
                            return perform(runner_->on_not_accepted(now(), e.token));
                          }
                          world_.note(about(fact_kind::lease_begun, e.token, ""));
                          perform(runner_->on_accepted(now(), e));
                        }));
                 },
                 [&](const refuse_offer& e) {
                   world_.met("runner.refused");
                   call("refuse", rpc::to_json(rpc::refuse{e.token, e.reason}), [](const auto&) {});
                 },
                 [&](const begin_attempt& e) { begin(e); },
                 [&](const renew_lease& e) { hold_lease(e.token, e.lease_ends); },
                 [&](const cancel_attempt& e) {
                   if (e.cause == cancel_cause::lease_runs_out) world_.met("runner.lease_ended");
                   if (born_.count(e.token) == 0) {
                     early_cancels_.try_emplace(e.token, e.reason);
                     return;
                   }
                   after_between(1, 100, [this, e] { cancel(e.token, e.reason); });
                 },
                 [&](const lose_attempt& e) {
                   to_outbox_.tell([this, e] {
                     rpc::finish lost;
                     lost.token = e.token;
                     lost.reason = e.reason;
                     perform(outbox_->on_finished(lost, false));
                   });
                 },
                 [&](const runner::end_zone& e) {
                   ask_zone(e.worker, {}, by_runner([this, e](const auto& done) {
                              world_.met(done ? "zone.ended" : "zone.end_failed");
                              perform(runner_->on_zone_ended(now(), e.worker, !done));
                            }));
                 },
                 [&](const prove_zone& e) { prove(e.worker); }, [](const forget_zone&) {},
                 [&](const send_heartbeat& e) {
                   call("heartbeat", rpc::to_json(e.state), by_runner([this, e](const auto& a) {
                          if (a) take_beat(e, *a);
                        }));
                 },
                 [&](const runner::look_again& e) {
                   if (!timer_.set(e.at)) return;
                   at(e.at, by_runner([this] {
                        if (timer_.ring(now())) perform(runner_->on_tick(now()));
                      }));
                 }},
        one);
  }
  note_workers();
}

void sim_runner::take_beat(const send_heartbeat& e, const json& value) {
  const auto answer = rpc::parse_heartbeat_answer(value);
  if (!answer) return world_.met("runner.strange_answer");
  for (const auto token : answer->stale) note_stale(token);
  perform(runner_->on_heartbeat(now(), e, answer->stale));
}

void sim_runner::prove(const std::string& worker) {
  const auto outcome = std::make_shared<step_outcome>();
  const auto chance = random_.below(100);
  if (chance < 10) outcome->failed = {ec::zone_dirty, "P3: a process of before", {}};
  const auto by_runner = [this](auto what) { return tree_.only_for("runner", what); };
  ask_zone(worker, {0, step::rollback, outcome, {}},
           by_runner([this, worker, outcome, by_runner](const result<json>& booted) {
             if (!booted) return end_proof(worker, booted.error().message);
             if (outcome->failed.code != ec::none)
               return end_proof(worker, outcome->failed.message);
             ask_zone(worker, {}, by_runner([this, worker](const result<json>& done) {
                        end_proof(worker, done ? "" : done.error().message);
                      }));
           }));
}

void sim_runner::end_proof(const std::string& worker, const std::string& problem) {
  world_.met(problem.empty() ? "zone.proved" : "zone.proof_failed");
  perform(runner_->on_zone_proved(now(), worker, problem));
}

void sim_runner::note_workers() {
  const auto& pool = runner_->pool();
  for (const auto& w : pool.list())
    world_.met("worker." + std::string{zone::to_string(w.zone.state())});
  std::vector<std::uint64_t> seen{pool.size(), pool.free(), pool.count(zone_state::busy),
                                  repairing(), runner_->attempts() + runner_->zones_ending()};
  if (seen == last_workers_) return;
  last_workers_ = seen;
  auto f = about(fact_kind::workers, 0, "");
  f.n = std::move(seen);
  world_.note(std::move(f));
}

// The outbox's actor.

void sim_runner::bring_up_outbox() {
  ++outbox_life_;
  outbox_disk_.write(std::exchange(outbox_writing_, {}));  // An actor dies after its write.
  outbox_.emplace(outbox_bounds{1600, 800});
  const auto found = outbox_disk_.attempts();
  if (!found.empty()) world_.met("outbox.recovered");
  perform(outbox_->on_recovered(found));
}

void sim_runner::write(const keep& e) {
  outbox_writing_ = e.records;
  after_between(100, 4000, [this, life = outbox_life_] {
    if (life != outbox_life_) return;
    const auto records = std::exchange(outbox_writing_, {});
    const bool is_full = world_.now() < disk_full_until_;
    if (!is_full) outbox_disk_.write(records);
    world_.met(is_full ? "outbox.write_failed" : "outbox.kept");
    if (!outbox_) return;
    perform(outbox_->on_kept(
        now(), is_full ? fail(ec::journal_full, "no space left on device") : result<void>{}));
  });
}

void sim_runner::perform(const outbox_effects& todo) {
  for (const auto& one : todo) {
    std::visit(
        overload{[&](const runner::say& e) { say(e); },
                 [&](const flush_soon&) {
                   after_between(
                       1, 100, tree_.only_for("outbox", [this] { perform(outbox_->on_flush()); }));
                 },
                 [&](const keep& e) { write(e); },
                 [&](const load& e) {
                   perform(outbox_->on_loaded(e.token, outbox_disk_.chunks(e.token, e.from, e.to)));
                 },
                 [&](const drop_stale& e) {
                   world_.met("outbox.stale");
                   to_runner_.tell([this, e] {
                     runner_->on_delivered(e.token);
                     stale(e.token);
                   });
                 },
                 [&](const attempt_done& e) {
                   to_runner_.tell([this, e] {
                     early_cancels_.erase(e.token);
                     perform(runner_->on_attempt_done(e));
                   });
                 },
                 [&](const delivered& e) {
                   to_runner_.tell([this, e] { runner_->on_delivered(e.token); });
                 },
                 [&](const give_up& e) {
                   world_.met("outbox.gave_up");
                   to_runner_.tell([this, e] {
                     perform(runner_->on_stale(e.token, cancel_cause::words_lost, e.reason));
                   });
                 },
                 [&](const room_changed& e) {
                   world_.met(e.has_room ? "outbox.has_room" : "outbox.full");
                   to_runner_.tell(
                       [this, e] { perform(runner_->on_room_changed(now(), e.has_room)); });
                 },
                 [&](const word_dropped&) { world_.met("outbox.word_dropped"); },
                 [&](const say_again& e) {
                   world_.met("outbox.retry");
                   at(e.at, tree_.only_for("outbox", [this] { perform(outbox_->on_tick(now())); }));
                 }},
        one);
  }
  auto f = about(fact_kind::held_bytes, 0, "");
  f.text = "outbox";
  f.n = {outbox_->bytes(), outbox_->bounds().bytes_max};
  world_.checker.on(f);
}

void sim_runner::say(const runner::say& e) {
  const std::string method{to_string(e.about().what)};
  call(method, std::visit([](const auto& m) { return rpc::to_json(m); }, e.message),
       tree_.only_for("outbox", [this, method, said = e.about()](const auto& a) {
         world_.met("outbox." + method +
                    (a                                   ? ".stored"
                     : a.error().code == ec::stale_lease ? ".stale"
                                                         : ".retried"));
         if (a)
           take_answer(said, *a);
         else
           perform(outbox_->on_refused(now(), said.token, a.error()));
       }));
}

void sim_runner::take_answer(const said_word& said, const json& value) {
  if (said.what != outbox_word::append) return perform(outbox_->on_stored(now(), said, 0));
  const auto answer = rpc::parse_append_answer(value);
  perform(answer ? outbox_->on_stored(now(), said, answer->ack)
                 : outbox_->on_refused(now(), said.token, answer.error()));
}

}  // namespace ntrace::sim
