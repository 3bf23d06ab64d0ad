#include "actors/runner/runner_actor.hpp"

#include <caf/send.hpp>
#include <functional>

#include "actors/rpc/messages/answers.hpp"
#include "actors/rpc/rpc_link_actor.hpp"
#include "actors/rpc/serve_tree.hpp"
#include "actors/runner/outbox_actor.hpp"
#include "actors/runner/runner_answers.hpp"
#include "actors/runner/runner_state.hpp"
#include "config/crash_point.hpp"
#include "config/gauges.hpp"
#include "config/log.hpp"
#include "config/overload.hpp"
#include "supervision/caf_types.hpp"
#include "supervision/supervisor_actor.hpp"

namespace ntrace::runner {
namespace {

using nlohmann::json;
using rpc::call;
using rpc::served;
using supervision::now_of;
using supervision::to_caf;
using tick_atom = caf::atom_constant<caf::atom("tick")>;
using born_atom = caf::atom_constant<caf::atom("born")>;

constexpr backoff_policy repair{milliseconds{1000},
                                milliseconds{300'000}};  // docs/zones.md, "Repair"

/// Calls a method of the dispatcher with one message.
template <class Message, class Good, class Bad>
void ask_dispatcher(runner_self self, const char* method, const Message& m, Good good, Bad bad) {
  self->request(self->state.parts.link, caf::infinite,
                call{0, method, json::array({rpc::to_json(m)})})
      .then([good](const served& a) { good(a.value); }, [bad](const caf::error&) { bad(); });
}

void accept(runner_self self, const accept_offer& e) {
  crash_point("runner.before_accept");
  const auto lead = zone::boot_clock_lead();
  ask_dispatcher(
      self, "accept", rpc::about_token{e.token},
      [self, e, lead](const json&) {
        carry_out(self, self->state.fsm->on_accepted(now_of(self), e), lead);
      },
      [self, e] { carry_out(self, self->state.fsm->on_not_accepted(now_of(self), e.token)); });
}

void refuse(runner_self self, const refuse_offer& e) {
  ++gauges::value("runner_offers_refused");
  ask_dispatcher(
      self, "refuse", rpc::refuse{e.token, e.reason}, [](const json&) {},
      [] {});  // An offer unanswered runs out by itself.
}

void beat(runner_self self, const send_heartbeat& e) {
  crash_point("runner.before_heartbeat");
  const auto lead = zone::boot_clock_lead();
  ask_dispatcher(
      self, "heartbeat", e.state,
      [self, e, lead](const json& value) {
        const auto answer = rpc::parse_heartbeat_answer(value);
        if (answer)
          return carry_out(self, self->state.fsm->on_heartbeat(now_of(self), e, answer->stale),
                           lead);
        ++gauges::value("runner_heartbeats_failed");  // It renews nothing.
        log::error("runner.strange_answer",
                   {{"method", "heartbeat"}, {"reason", to_string(answer.error())}});
      },
      [] { ++gauges::value("runner_heartbeats_failed"); });  // The link says why.
}

void begin(runner_self self, const begin_attempt& e, zone::boot_clock::duration lead) {
  auto& s = self->state;
  crash_point("runner.accepted");
  const auto token = e.offer.token;
  self->send(s.parts.outbox, attempt_begun{token, e.offer.run});
  auto lease = zone::zone_lease::make(zone::on_boot_clock(e.lease_ends, lead));
  if (!lease) return carry_out(self, s.fsm->on_attempt_died(token, to_string(lease.error())));
  s.leases[token] = *lease;
  attempt_spec spec{e.offer.run, e.offer.attempt,      token,          e.offer.source,
                    e.worker,    s.zones.at(e.worker), s.parts.outbox, std::move(*lease)};
  const auto options = s.parts.options;
  const auto me = s.parts.self;
  supervision::child child;
  child.spec.id = "attempt_" + std::to_string(token);
  child.start = [options, spec, me, token](caf::local_actor* by) -> result<caf::actor> {
    auto made = spawn_attempt(by->system(), options, spec);
    if (made) caf::anon_send(me, born_atom::value, token, *made);
    return made;
  };
  self->request(s.parts.attempt_sup, caf::infinite, supervision::add_child_atom::value, child)
      .then([](const std::string&) {},
            [self, token](const caf::error& why) {
              self->state.early_cancels.erase(token);
              carry_out(self, self->state.fsm->on_attempt_died(
                                  token, to_string(supervision::from_caf(why))));
            });
}

void tell_repair(runner_self self, const std::string& worker, const std::string& problem) {
  auto& fsm = *self->state.fsm;
  const auto state_of = [&] {
    const auto* known = fsm.pool().find(worker);
    return known ? known->zone.state() : zone_state::free;
  };
  const auto before = state_of();
  const auto todo = fsm.on_zone_proved(now_of(self), worker, problem);
  const auto after = state_of();
  ++gauges::value(problem.empty() ? "runner_zones_proved" : "runner_zone_proofs_failed");
  if (after == zone_state::parked && before != after)
    log::error("worker.parked", {{"worker", worker}, {"reason", problem}});
  else if (after == zone_state::free && before != zone_state::proving)
    log::info("worker.repaired", {{"worker", worker}});
  carry_out(self, todo);
}

void empty_zone(runner_self self, const std::string& worker) {
  crash_point("runner.before_zone_end");
  const auto done = [self, worker](bool is_broken) {
    carry_out(self, self->state.fsm->on_zone_ended(now_of(self), worker, is_broken));
  };
  self->request(self->state.zones.at(worker), std::chrono::minutes{2}, zone::end_atom::value)
      .then([done](caf::ok_atom) { done(false); }, [done](const caf::error&) { done(true); });
}

/// Boots and proves a zone that nobody has, as an attempt would, and empties it. Before that it is
/// emptied too: an attempt of an earlier life of this actor may still be up in it, and fenced.
void prove(runner_self self, const std::string& worker) {
  const auto& options = self->state.parts.options;
  const auto front = self->state.zones.at(worker);
  const auto done = [self, worker](const std::string& problem) {
    tell_repair(self, worker, problem);
  };
  const auto failed = [done](const caf::error& e) { done(to_string(supervision::from_caf(e))); };
  zone::boot_request boot;
  boot.spec.limits = options.limits;
  boot.spec.deadline = options.boot;
  const auto end = [self, front, failed](std::function<void()> then) {
    self->request(front, std::chrono::minutes{2}, zone::end_atom::value)
        .then([then](caf::ok_atom) { then(); }, failed);
  };
  end([self, front, boot, end, done, failed] {
    self->request(front, std::chrono::minutes{2}, boot)
        .then([end, done](const zone::boot_answer&) { end([done] { done(""); }); }, failed);
  });
}

}  // namespace

void carry_out(runner_self self, const runner_effects& todo, zone::boot_clock::duration lead) {
  auto& s = self->state;
  for (const auto& one : todo) {
    std::visit(
        overload{[&](const accept_offer& e) { accept(self, e); },
                 [&](const refuse_offer& e) { refuse(self, e); },
                 [&](const begin_attempt& e) { begin(self, e, lead); },
                 [&](const renew_lease& e) {
                   const auto at = s.leases.find(e.token);
                   if (at != s.leases.end() &&
                       !at->second->renew(zone::on_boot_clock(e.lease_ends, lead)))
                     ++gauges::value("runner_late_renewals");
                 },
                 [&](const cancel_attempt& e) {
                   ++gauges::value("runner_attempts_cancelled");
                   log::info("attempt.cancelled", {{"token", e.token}, {"reason", e.reason}});
                   if (const auto at = s.attempts.find(e.token); at != s.attempts.end())
                     self->send(at->second, cancel_atom::value, e.reason);
                   else
                     s.early_cancels.try_emplace(e.token, e.reason);
                 },
                 [&](const lose_attempt& e) {
                   attempt_finished lost{e.token};
                   lost.reason = e.reason;
                   self->send(s.parts.outbox, std::move(lost));
                 },
                 [&](const end_zone& e) { empty_zone(self, e.worker); },
                 [&](const prove_zone& e) { prove(self, e.worker); },
                 [&](const forget_zone& e) {
                   if (s.zones.erase(e.worker) != 0)
                     self->send(s.parts.zone_sup, supervision::terminate_atom::value,
                                zone_id(e.worker));
                 },
                 [&](const send_heartbeat& e) { beat(self, e); },
                 [&](const look_again& e) {
                   if (!s.timer.set(e.at)) return;
                   self->delayed_send(self, std::max(time_point::duration{0}, e.at - now_of(self)),
                                      tick_atom::value);
                 }},
        one);
  }
  gauges::value("runner_workers_parked") =
      static_cast<std::int64_t>(s.fsm->pool().count(zone_state::parked));
  gauges::value("runner_late_accepts") = static_cast<std::int64_t>(s.fsm->late_accepts());
}

namespace {

caf::result<served> serve(runner_self self, const call& c) {
  auto& s = self->state;
  const auto first = c.args.is_array() && !c.args.empty() ? c.args[0] : json();
  if (c.method == "offer" && first.is_object()) {
    const auto offer = rpc::parse_offer(first);
    if (!offer) return to_caf(offer.error());
    carry_out(self, s.fsm->on_offer(now_of(self), *offer));
    return served{to_json(received_answer{})};
  }
  if (c.method == "abort" && first.is_object()) {
    const auto aborted = rpc::parse_about_token(first);
    if (!aborted) return to_caf(aborted.error());
    carry_out(self, s.fsm->on_stale(aborted->token, cancel_cause::lease_lost,
                                    "the dispatcher took the lease back"));
    return served{to_json(received_answer{})};
  }
  if (c.method == "workers") return served{to_json(s.fsm->pool().list())};
  if (c.method == "status")
    return served{to_json(runner_status{s.fsm->state(now_of(self)), s.fsm->is_draining(),
                                        s.fsm->is_up(), gauges::snapshot()})};
  if (c.method == "tree") {
    auto promise = self->make_response_promise();
    rpc::serve_tree(self, s.parts.root, promise);
    return caf::delegated<served>{};
  }
  if (c.method == "tunnel") {
    if (!s.parts.tunnel)
      return to_caf({ec::invalid_state,
                     "this runner dials its dispatcher directly; start it with --tunnel",
                     {}});
    auto promise = self->make_response_promise();
    self->request(s.parts.tunnel, std::chrono::seconds{5}, c)
        .then([promise](const served& a) { rpc::give(promise, a.value); },
              [promise](const caf::error& e) { rpc::deny(promise, e); });
    return caf::delegated<served>{};
  }
  if (c.method == "drain" || c.method == "resume") {
    carry_out(self, s.fsm->on_drain(now_of(self), c.method == "drain"));
    return served{rpc::to_json(rpc::drain_answer{s.fsm->is_draining()})};
  }
  if (c.method == "enroll" || c.method == "expel") {
    if (!first.is_string())
      return to_caf({ec::bad_argument, c.method + " takes a zone's uuid", {{"field", "uuid"}}});
    const bool has_options = c.args.size() > 1 && c.args[1].is_object();
    const auto options = has_options ? parse_expel_options(c.args[1]) : expel_options{};
    if (!options) return to_caf(options.error());
    auto promise = self->make_response_promise();
    if (c.method == "enroll")
      enroll(self, first.get<std::string>(), promise);
    else
      expel(self, first.get<std::string>(), options->is_abort, promise);
    return caf::delegated<served>{};
  }
  return to_caf({ec::no_such_method,
                 "no method " + c.method.substr(0, 64) +
                     "; there are enroll, expel, workers, status, tree, tunnel, drain, resume",
                 {}});
}

void lose_link(runner_self self, const rpc::link_lost& lost) {
  self->state.fsm->on_link_lost();
  self->send(self->state.parts.outbox, lost);
}

caf::behavior runner(runner_self self, const runner_parts& parts) {
  supervision::guard(self, "runner");
  self->state.parts = parts;
  self->state.fsm.emplace(parts.name, repair, random_seed());
  // Those of an earlier incarnation ended with it: nobody watches over them.
  self->send(parts.outbox, attempts_lost{"the runner's actor was restarted"});
  self->set_down_handler([self](const caf::down_msg& down) {
    auto& s = self->state;
    const auto at = s.tokens.find(down.source.id());
    if (at == s.tokens.end()) return;
    const auto token = at->second;
    s.tokens.erase(at);
    s.attempts.erase(token);
    // One that ended normally has sent its verdict, which is on its way through the outbox.
    const auto reason = supervision::exit_reason_of(down.reason);
    if (!reason.is_normal()) carry_out(self, s.fsm->on_attempt_died(token, to_string(reason)));
  });
  start(self);
  return {[self](const call& c) -> caf::result<served> { return serve(self, c); },
          [](const rpc::peer_gone&) {},
          [](const rpc::port_opened&) {},
          [self](const rpc::link_up& up) {
            auto& s = self->state;
            self->send(s.parts.outbox, up);
            carry_out(self, s.fsm->on_link_up(now_of(self), up.hello.heartbeat, up.hello.lease));
          },
          [self](const rpc::link_lost& lost) { lose_link(self, lost); },
          [self](born_atom, std::uint64_t token, const caf::actor& who) {
            self->state.attempts[token] = who;
            self->state.tokens[who->id()] = token;
            self->monitor(who);
            if (const auto early = self->state.early_cancels.extract(token))
              self->send(who, cancel_atom::value, early.mapped());
          },
          [self](const attempt_done& m) {
            self->state.early_cancels.erase(m.token);
            self->state.leases.erase(m.token);
            carry_out(self, self->state.fsm->on_attempt_done(m));
          },
          [self](const delivered& m) { self->state.fsm->on_delivered(m.token); },
          [self](const drop_stale& m) {
            self->state.fsm->on_delivered(m.token);
            carry_out(self, self->state.fsm->on_stale(m.token, cancel_cause::lease_lost,
                                                      "the lease is stale"));
          },
          [self](const give_up& m) {
            carry_out(self, self->state.fsm->on_stale(m.token, cancel_cause::words_lost, m.reason));
          },
          [self](const room_changed& m) {
            carry_out(self, self->state.fsm->on_room_changed(now_of(self), m.has_room));
          },
          [self](tick_atom) {
            if (self->state.timer.ring(now_of(self)))
              carry_out(self, self->state.fsm->on_tick(now_of(self)));
          },
          [self](ready_atom) -> caf::result<caf::unit_t> {
            if (self->state.is_ready) return caf::unit;
            self->state.waiting.push_back(self->make_response_promise());
            return caf::delegated<caf::unit_t>{};
          },
          [self](rpc::hello_atom) -> caf::result<rpc::hello_args> {
            lose_link(self, {"the link dials"});  // One that died has not said so itself.
            if (self->state.is_ready)
              return rpc::hello_args{rpc::to_json(self->state.fsm->state(now_of(self)))};
            self->state.asked_for_hello.push_back(self->make_response_promise());
            return caf::delegated<rpc::hello_args>{};
          },
          [self](drain_atom, bool draining) {
            carry_out(self, self->state.fsm->on_drain(now_of(self), draining));
          },
          [self](idle_atom) -> std::uint64_t { return self->state.fsm->attempts(); }};
}

}  // namespace

supervision::child_spec zone_template() {
  return {"zone",
          supervision::restart_type::permanent,
          {milliseconds{60'000}},
          supervision::child_kind::worker};
}

result<caf::actor> spawn_runner(caf::actor_system& system, const runner_parts& parts) {
  return system.spawn(runner, parts);
}

}  // namespace ntrace::runner
