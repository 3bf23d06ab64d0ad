#include "actors/runner/runner_actor.hpp"

#include <caf/event_based_actor.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>

#include <map>

#include "actors/rpc/rpc_link_actor.hpp"
#include "actors/rpc/serve_tree.hpp"
#include "actors/runner/outbox_actor.hpp"
#include "actors/runner/runner_fsm.hpp"
#include "actors/runner/worker_store.hpp"
#include "actors/zone/zone_linux.hpp"
#include "config/gauges.hpp"
#include "config/ids.hpp"
#include "config/log.hpp"
#include "config/overload.hpp"
#include "supervision/blocking_worker.hpp"
#include "supervision/supervisor_actor.hpp"

namespace ntrace::runner {
namespace {

using nlohmann::json;
using rpc::call;
using rpc::deny;
using rpc::give;
using rpc::served;
using supervision::now_of;
using supervision::run_blocking;
using supervision::to_caf;
using tick_atom = caf::atom_constant<caf::atom("tick")>;
using born_atom = caf::atom_constant<caf::atom("born")>;

constexpr backoff_policy repair{milliseconds{1000},
                                milliseconds{300'000}};  // docs/zones.md, "Repair"

struct runner_state {
  const char* name = "runner";
  runner_parts parts;
  std::optional<runner_fsm> fsm;
  std::map<std::uint64_t, caf::actor> attempts;  ///< By token.
  std::map<caf::actor_id, std::uint64_t> tokens;
  std::map<std::uint64_t, std::string> early_cancels;  ///< Of attempts that are being spawned.
  std::map<std::string, caf::actor> zones;             ///< Façades by uuid.
  std::vector<caf::response_promise> waiting, asked_for_hello;  ///< Until it is ready.
  bool is_ready = false;
};
using runner_self = caf::stateful_actor<runner_state>*;

void perform(runner_self self, const runner_effects& todo);

std::string zone_id(const std::string& uuid) { return "zone_" + uuid; }

/// Calls a method of the dispatcher with one object.
template <class Good, class Bad>
void ask_dispatcher(runner_self self, const char* method, json args, Good good, Bad bad) {
  self->request(self->state.parts.link, caf::infinite,
                call{0, method, json::array({std::move(args)})})
      .then([good](const served& a) { good(a.value); }, [bad](const caf::error&) { bad(); });
}

void accept(runner_self self, const accept_offer& e) {
  ask_dispatcher(
      self, "accept", {{"token", e.token}},
      [self, e](const json&) { perform(self, self->state.fsm->on_accepted(now_of(self), e)); },
      [self, e] { perform(self, self->state.fsm->on_not_accepted(now_of(self), e.token)); });
}

void refuse(runner_self self, const refuse_offer& e) {
  ++gauges::value("runner_offers_refused");
  ask_dispatcher(
      self, "refuse", {{"token", e.token}, {"reason", e.reason}}, [](const json&) {},
      [] {});  // An offer unanswered runs out by itself.
}

void beat(runner_self self, const send_heartbeat& e) {
  ask_dispatcher(
      self, "heartbeat", e.state,
      [self, e](const json& answer) {
        std::vector<std::uint64_t> stale;
        for (const auto& token : answer.value("stale", json::array()))
          if (token.is_number_unsigned()) stale.push_back(token.get<std::uint64_t>());
        perform(self, self->state.fsm->on_heartbeat(e, stale));
      },
      [] { ++gauges::value("runner_heartbeats_failed"); });  // The link says why.
}

void begin(runner_self self, const begin_attempt& e) {
  auto& s = self->state;
  const auto token = e.offer.value("token", std::uint64_t{0});
  attempt_spec spec{e.offer.value("run", ""),
                    e.offer.value("attempt", std::uint64_t{1}),
                    token,
                    e.offer.value("source", ""),
                    e.worker,
                    s.zones.at(e.worker),
                    s.parts.outbox};
  self->send(s.parts.outbox, attempt_begun{token});
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
              perform(self, self->state.fsm->on_attempt_died(
                                token, to_string(supervision::from_caf(why))));
            });
}

void empty_zone(runner_self self, const std::string& worker) {
  const auto done = [self, worker](bool is_broken) {
    perform(self, self->state.fsm->on_zone_ended(now_of(self), worker, is_broken));
  };
  self->request(self->state.zones.at(worker), std::chrono::minutes{2}, zone::end_atom::value)
      .then([done](caf::ok_atom) { done(false); }, [done](const caf::error&) { done(true); });
}

void perform(runner_self self, const runner_effects& todo) {
  auto& s = self->state;
  for (const auto& one : todo) {
    std::visit(
        overload{[&](const accept_offer& e) { accept(self, e); },
                 [&](const refuse_offer& e) { refuse(self, e); },
                 [&](const begin_attempt& e) { begin(self, e); },
                 [&](const cancel_attempt& e) {
                   if (const auto at = s.attempts.find(e.token); at != s.attempts.end())
                     self->send(at->second, cancel_atom::value, e.reason);
                   else
                     s.early_cancels.try_emplace(e.token, e.reason);
                 },
                 [&](const lose_attempt& e) {
                   self->send(s.parts.outbox, attempt_finished{e.token, "infrastructure", e.reason,
                                                               json::object(), false});
                 },
                 [&](const end_zone& e) { empty_zone(self, e.worker); },
                 [&](const forget_zone& e) {
                   if (s.zones.erase(e.worker) != 0)
                     self->send(s.parts.zone_sup, supervision::terminate_atom::value,
                                zone_id(e.worker));
                 },
                 [&](const send_heartbeat& e) { beat(self, e); },
                 [&](const look_again& e) {
                   self->delayed_send(self, std::max(time_point::duration{0}, e.at - now_of(self)),
                                      tick_atom::value);
                 }},
        one);
  }
}

/// Makes sure that the zone's actor runs, and calls `then` with its façade.
void add_zone(runner_self self, const std::string& uuid,
              const std::function<void(const result<caf::unit_t>&)>& then) {
  auto& s = self->state;
  supervision::child child;
  child.spec.id = zone_id(uuid);
  child.held.resend = false;  // What ran in a zone that died is not begun again behind its back.
  const auto helper = s.parts.helper;
  child.start = [helper, uuid](caf::local_actor* by) -> result<caf::actor> {
    return zone::spawn_zone(by->system(), std::make_shared<zone::zone_linux>(helper, uuid));
  };
  const auto failed = [then](const caf::error& e) { then(fail(supervision::from_caf(e))); };
  const auto refer = [self, uuid, then, failed] {
    self->request(self->state.parts.zone_sup, caf::infinite, supervision::ref_atom::value,
                  zone_id(uuid))
        .then(
            [self, uuid, then](const caf::actor& front) {
              self->state.zones[uuid] = front;
              then(caf::unit);
            },
            failed);
  };
  self->request(s.parts.zone_sup, caf::infinite, supervision::add_child_atom::value, child)
      .then([refer](const std::string&) { refer(); },
            [refer, failed](const caf::error& e) {
              // A runner that was restarted finds its zones running.
              supervision::from_caf(e).code == ec::already_started ? refer() : failed(e);
            });
}

void enroll(runner_self self, const std::string& uuid, const caf::response_promise& promise) {
  auto& s = self->state;
  const auto answer = [self, uuid, promise] {
    give(promise, to_json(*self->state.fsm->pool().find(uuid)));
  };
  if (!is_uuid(uuid))
    return deny(promise,
                to_caf({ec::bad_argument,
                        "\"" + uuid + "\" is not a zone's uuid; `ntrace zone list` shows them",
                        {}}));
  if (const auto* known = s.fsm->pool().find(uuid); known && !known->is_leaving) return answer();
  const auto helper = s.parts.helper;
  const auto data = s.parts.data;
  auto enrolled = s.fsm->pool().list();
  const auto at = wall_ms();
  run_blocking<caf::unit_t>(
      self, "enroll",
      [helper, data, uuid, enrolled, at]() -> result<caf::unit_t> {
        if (auto saved = enroll_on_disk(*helper, data, uuid, at, enrolled); !saved)
          return fail(saved.error());
        return caf::unit;
      },
      [self, uuid, at, promise, answer](const result<caf::unit_t>& done) {
        if (!done) return deny(promise, to_caf(done.error()));
        add_zone(self, uuid, [self, uuid, at, promise, answer](const result<caf::unit_t>& added) {
          if (!added) return deny(promise, to_caf(added.error()));
          perform(self, self->state.fsm->on_enrolled(now_of(self), uuid, at));
          log::info("worker.enrolled", {{"worker", uuid}});
          answer();
        });
      });
}

void expel(runner_self self, const std::string& uuid, bool abort,
           const caf::response_promise& promise) {
  auto& s = self->state;
  auto todo = s.fsm->on_expel(now_of(self), uuid, abort);
  if (!todo) return deny(promise, to_caf(todo.error()));
  perform(self, *todo);
  auto rest = s.fsm->pool().list();
  std::erase_if(rest, [](const worker& w) { return w.is_leaving; });
  const auto data = s.parts.data;
  run_blocking<caf::unit_t>(
      self, "expel",
      [data, rest]() -> result<caf::unit_t> {
        if (auto saved = save_workers(data, rest); !saved) return fail(saved.error());
        return caf::unit;
      },
      [uuid, promise](const result<caf::unit_t>& done) {
        if (!done) return deny(promise, to_caf(done.error()));
        log::info("worker.expelled", {{"worker", uuid}});
        give(promise, json{{"uuid", uuid}, {"expelled", true}});
      });
}

caf::result<served> serve(runner_self self, const call& c) {
  auto& s = self->state;
  const auto first = c.args.empty() ? json() : c.args[0];
  if (c.method == "offer" && first.is_object()) {
    perform(self, s.fsm->on_offer(now_of(self), first));
    return served{json{{"received", true}}};
  }
  if (c.method == "abort" && first.is_object()) {
    perform(self, s.fsm->on_stale(first.value("token", std::uint64_t{0}),
                                  "the dispatcher took the lease back"));
    return served{json{{"received", true}}};
  }
  if (c.method == "workers") {
    auto list = json::array();
    for (const auto& w : s.fsm->pool().list()) list.push_back(to_json(w));
    return served{std::move(list)};
  }
  if (c.method == "status") {
    auto out = s.fsm->state();
    out["draining"] = s.fsm->is_draining();
    out["linked"] = s.fsm->is_up();
    out["gauges"] = gauges::snapshot();
    return served{std::move(out)};
  }
  if (c.method == "tree") {
    auto promise = self->make_response_promise();
    rpc::serve_tree(self, s.parts.root, promise);
    return caf::delegated<served>{};
  }
  if (c.method == "drain" || c.method == "resume") {
    perform(self, s.fsm->on_drain(now_of(self), c.method == "drain"));
    return served{json{{"draining", s.fsm->is_draining()}}};
  }
  if (c.method == "enroll" || c.method == "expel") {
    if (!first.is_string())
      return to_caf({ec::bad_argument, c.method + " takes a zone's uuid", {{"field", "uuid"}}});
    auto promise = self->make_response_promise();
    if (c.method == "enroll")
      enroll(self, first.get<std::string>(), promise);
    else
      expel(self, first.get<std::string>(),
            c.args.size() > 1 && c.args[1].is_object() && c.args[1].value("abort", false), promise);
    return caf::delegated<served>{};
  }
  return to_caf({ec::no_such_method,
                 "no method " + c.method.substr(0, 64) +
                     "; there are enroll, expel, workers, status, tree, drain, resume",
                 {}});
}

void serve_from_now(runner_self self) {
  auto& s = self->state;
  s.is_ready = true;
  for (auto& promise : s.waiting) promise.deliver(caf::unit);
  s.waiting.clear();
  for (auto& promise : s.asked_for_hello) promise.deliver(rpc::hello_args{s.fsm->state()});
  s.asked_for_hello.clear();
}

void start(runner_self self) {
  const auto helper = self->state.parts.helper;
  const auto data = self->state.parts.data;
  const auto wanted = self->state.parts.workers;
  run_blocking<std::shared_ptr<std::vector<worker>>>(
      self, "start",
      [helper, data, wanted]() -> result<std::shared_ptr<std::vector<worker>>> {
        auto all = load_workers(data);
        if (!all) return fail(all.error());
        if (auto made = make_workers(*helper, data, wanted, *all); !made) return fail(made.error());
        return std::make_shared<std::vector<worker>>(std::move(*all));
      },
      [self](const result<std::shared_ptr<std::vector<worker>>>& all) {
        if (!all) return self->quit(to_caf(all.error()));
        auto left = std::make_shared<std::size_t>((*all)->size());
        for (const auto& w : **all)
          add_zone(self, w.uuid, [self, w, left](const result<caf::unit_t>& added) {
            if (!added) return self->quit(to_caf(added.error()));
            perform(self, self->state.fsm->on_enrolled(now_of(self), w.uuid, w.enrolled_ms));
            if (--*left == 0) serve_from_now(self);
          });
        if ((*all)->empty()) serve_from_now(self);
      });
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
    if (!reason.is_normal()) perform(self, s.fsm->on_attempt_died(token, to_string(reason)));
  });
  start(self);
  return {[self](const call& c) -> caf::result<served> {
            try {
              return serve(self, c);
            } catch (const json::exception& e) {
              return to_caf({ec::bad_argument, c.method + ": " + e.what(), {}});
            }
          },
          [](const rpc::peer_gone&) {},
          [self](const rpc::link_up& up) {
            auto& s = self->state;
            self->send(s.parts.outbox, up);
            const auto said = [&](const char* name, std::int64_t otherwise) {
              return milliseconds{std::max<std::int64_t>(up.hello.value(name, otherwise), 20)};
            };
            perform(self, s.fsm->on_link_up(now_of(self), said("heartbeat_ms", 10'000),
                                            said("lease_ms", 30'000)));
          },
          [self](const rpc::link_lost& lost) { lose_link(self, lost); },
          [self](born_atom, std::uint64_t token, const caf::actor& who) {
            self->state.attempts[token] = who;
            self->state.tokens[who->id()] = token;
            self->monitor(who);
            if (const auto early = self->state.early_cancels.extract(token))
              self->send(who, cancel_atom::value, early.mapped());
          },
          [self](const attempt_over& m) {
            self->state.early_cancels.erase(m.token);
            perform(self, self->state.fsm->on_attempt_over(m.token, m.zone_is_broken, m.clean));
          },
          [self](const attempt_stale& m) {
            perform(self, self->state.fsm->on_stale(m.token, "the lease is stale"));
          },
          [self](tick_atom) { perform(self, self->state.fsm->on_tick(now_of(self))); },
          [self](ready_atom) -> caf::result<caf::unit_t> {
            if (self->state.is_ready) return caf::unit;
            self->state.waiting.push_back(self->make_response_promise());
            return caf::delegated<caf::unit_t>{};
          },
          [self](rpc::hello_atom) -> caf::result<rpc::hello_args> {
            lose_link(self, {"the link dials"});  // One that died has not said so itself.
            if (self->state.is_ready) return rpc::hello_args{self->state.fsm->state()};
            self->state.asked_for_hello.push_back(self->make_response_promise());
            return caf::delegated<rpc::hello_args>{};
          },
          [self](drain_atom, bool draining) {
            perform(self, self->state.fsm->on_drain(now_of(self), draining));
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
