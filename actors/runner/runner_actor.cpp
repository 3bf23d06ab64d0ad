#include "actors/runner/runner_actor.hpp"

#include <caf/event_based_actor.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>

#include <map>

#include "actors/rpc/rpc_link_actor.hpp"
#include "actors/runner/outbox_actor.hpp"
#include "actors/runner/worker_store.hpp"
#include "actors/runner/zone_pool_fsm.hpp"
#include "actors/zone/zone_linux.hpp"
#include "config/gauges.hpp"
#include "config/ids.hpp"
#include "config/log.hpp"
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
using beat_atom = caf::atom_constant<caf::atom("beat")>;
using born_atom = caf::atom_constant<caf::atom("born")>;

constexpr int protocol_version = 1;
constexpr backoff_policy repair{milliseconds{1000},
                                milliseconds{300'000}};  // docs/zones.md, "Repair"

struct held_attempt {
  std::string run, worker;
  caf::actor address;
  caf::actor_addr addr;
  bool is_over = false;
};

struct runner_state {
  const char* name = "runner";
  runner_parts parts;
  zone_pool_fsm pool{repair, random_seed()};
  std::map<std::uint64_t, held_attempt> attempts;  ///< By token.
  std::map<std::string, caf::actor> zones;         ///< Façades by uuid.
  std::vector<caf::response_promise> waiting;
  milliseconds heartbeat{10'000};
  bool is_up = false, is_ready = false, is_draining = false;
};
using runner_self = caf::stateful_actor<runner_state>*;

json state_of(runner_self self) {
  const auto& s = self->state;
  json attempts = json::array();
  for (const auto& [token, a] : s.attempts)
    if (!a.is_over) attempts.push_back({{"token", token}, {"run", a.run}, {"worker", a.worker}});
  return {{"version", protocol_version}, {"name", s.parts.name},
          {"workers", s.pool.size()},    {"free", s.is_draining ? 0 : s.pool.free()},
          {"text", s.pool.text()},       {"attempts", attempts}};
}

void cancel(runner_self self, std::uint64_t token, const std::string& reason) {
  const auto at = self->state.attempts.find(token);
  if (at != self->state.attempts.end() && at->second.address)
    self->send(at->second.address, cancel_atom::value, reason);
}

void beat(runner_self self) {
  auto& s = self->state;
  self->send(s.parts.link, rpc::hello_atom::value, rpc::hello_args{state_of(self)});
  if (!s.is_up) return;
  self->request(s.parts.link, caf::infinite, call{0, "heartbeat", json::array({state_of(self)})})
      .then(
          [self](const served& a) {
            for (const auto& token : a.value.value("stale", json::array()))
              if (token.is_number_unsigned())
                cancel(self, token.get<std::uint64_t>(), "the dispatcher gave the lease away");
          },
          [](const caf::error&) {
            ++gauges::value("runner_heartbeats_failed");
          });  // The link says why.
}

void wake_for_repair(runner_self self) {
  if (const auto at = self->state.pool.next_wake())
    self->delayed_send(self, std::max(time_point::duration{0}, *at - now_of(self)),
                       tick_atom::value);
}

std::string zone_id(const std::string& uuid) { return "zone_" + uuid; }

/// A worker that is enrolled no more needs no actor.
void remove_zone(runner_self self, const std::string& uuid) {
  if (self->state.pool.find(uuid) || self->state.zones.erase(uuid) == 0) return;
  self->send(self->state.parts.zone_sup, supervision::terminate_atom::value, zone_id(uuid));
}

/// The zone is emptied first; only then is its worker free.
void release(runner_self self, const std::string& worker, bool broken) {
  const auto zone = self->state.zones.find(worker);
  if (zone == self->state.zones.end())
    return self->state.pool.on_release(now_of(self), worker, broken);
  const auto then = [self, worker](bool is_broken) {
    auto& s = self->state;
    s.pool.on_release(now_of(self), worker, is_broken);
    remove_zone(self, worker);
    wake_for_repair(self);
    beat(self);
  };
  self->request(zone->second, std::chrono::minutes{2}, zone::end_atom::value)
      .then([then, broken](caf::ok_atom) { then(broken); },
            [then](const caf::error&) { then(true); });
}

void on_over(runner_self self, std::uint64_t token, bool broken, const json& clean) {
  const auto at = self->state.attempts.find(token);
  if (at == self->state.attempts.end() || std::exchange(at->second.is_over, true)) return;
  if (!clean.is_null()) self->state.pool.on_proved(at->second.worker, clean);
  const auto worker = at->second.worker;
  self->state.attempts.erase(at);
  release(self, worker, broken);
}

void start_attempt(runner_self self, const json& offer, const std::string& worker) {
  auto& s = self->state;
  const auto token = offer.value("token", std::uint64_t{0});
  attempt_spec spec{offer.value("run", ""),
                    offer.value("attempt", std::uint64_t{1}),
                    token,
                    offer.value("source", ""),
                    worker,
                    s.zones.at(worker),
                    s.parts.outbox};
  const auto options = s.parts.options;
  const auto me = s.parts.self;
  supervision::child child;
  child.spec.id = "attempt_" + std::to_string(token);
  child.start = [options, spec, me, token](caf::local_actor* by) -> result<caf::actor> {
    auto made = spawn_attempt(by->system(), options, spec);
    if (made) caf::anon_send(me, born_atom::value, token, *made);
    return made;
  };
  s.attempts[token] = {spec.run, worker, {}, {}, false};
  self->request(s.parts.attempt_sup, std::chrono::seconds{10}, supervision::add_child_atom::value,
                child)
      .then([](const std::string&) {},
            [self, token](const caf::error& e) {
              self->send(
                  self->state.parts.outbox,
                  attempt_finished{token, "infrastructure", to_string(supervision::from_caf(e)),
                                   json::object(), false});
            });
}

void on_offer(runner_self self, const json& offer) {
  auto& s = self->state;
  const auto token = offer.value("token", std::uint64_t{0});
  const auto refuse = [&](const std::string& reason) {
    ++gauges::value("runner_offers_refused");
    self->request(s.parts.link, caf::infinite,
                  call{0, "refuse", json::array({json{{"token", token}, {"reason", reason}}})})
        .then([](const served&) {},
              [](const caf::error&) {});  // An offer unanswered runs out by itself.
  };
  if (s.is_draining) return refuse("draining");
  const auto worker = s.pool.on_acquire(offer.value("run", ""));
  if (!worker) return refuse("no worker is free: " + s.pool.text());
  const auto& uuid = *worker;
  // The zone starts only after the dispatcher has confirmed the lease.
  self->request(s.parts.link, caf::infinite,
                call{0, "accept", json::array({json{{"token", token}}})})
      .then([self, offer, uuid](const served&) { start_attempt(self, offer, uuid); },
            [self, uuid](const caf::error&) {
              self->state.pool.on_release(now_of(self), uuid, false);
              beat(self);
            });
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
    give(promise, to_json(*self->state.pool.find(uuid)));
  };
  if (!is_uuid(uuid))
    return deny(promise,
                to_caf({ec::bad_argument,
                        "\"" + uuid + "\" is not a zone's uuid; `ntrace zone list` shows them",
                        {}}));
  if (const auto* known = s.pool.find(uuid); known && !known->is_leaving) return answer();
  const auto helper = s.parts.helper;
  const auto data = s.parts.data;
  auto enrolled = s.pool.list();
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
          self->state.pool.on_enroll(uuid, at);
          log::info("worker.enrolled", {{"worker", uuid}});
          answer();
          beat(self);
        });
      });
}

void expel(runner_self self, const std::string& uuid, bool abort,
           const caf::response_promise& promise) {
  auto& s = self->state;
  if (auto out = s.pool.on_expel(uuid); !out) return deny(promise, to_caf(out.error()));
  if (abort)
    for (const auto& [token, a] : s.attempts)
      if (a.worker == uuid) cancel(self, token, "the worker was expelled");
  auto rest = s.pool.list();
  std::erase_if(rest, [](const worker& w) { return w.is_leaving; });
  const auto data = s.parts.data;
  run_blocking<caf::unit_t>(
      self, "expel",
      [data, rest]() -> result<caf::unit_t> {
        if (auto saved = save_workers(data, rest); !saved) return fail(saved.error());
        return caf::unit;
      },
      [self, uuid, promise](const result<caf::unit_t>& done) {
        if (!done) return deny(promise, to_caf(done.error()));
        log::info("worker.expelled", {{"worker", uuid}});
        remove_zone(self, uuid);
        give(promise, json{{"uuid", uuid}, {"expelled", true}});
        beat(self);
      });
}

void set_draining(runner_self self, bool draining) {
  self->state.is_draining = draining;
  beat(self);
}

caf::result<served> serve(runner_self self, const call& c) {
  auto& s = self->state;
  const auto first = c.args.empty() ? json() : c.args[0];
  if (c.method == "offer" && first.is_object()) {
    on_offer(self, first);
    return served{json{{"received", true}}};
  }
  if (c.method == "abort" && first.is_object()) {
    cancel(self, first.value("token", std::uint64_t{0}), "the dispatcher took the lease back");
    return served{json{{"received", true}}};
  }
  if (c.method == "workers") {
    auto list = json::array();
    for (const auto& w : s.pool.list()) list.push_back(to_json(w));
    return served{std::move(list)};
  }
  if (c.method == "status") {
    auto out = state_of(self);
    out["draining"] = s.is_draining;
    out["linked"] = s.is_up;
    out["gauges"] = gauges::snapshot();
    return served{std::move(out)};
  }
  if (c.method == "tree") {
    auto promise = self->make_response_promise();
    self->request(s.parts.root, std::chrono::seconds{5}, supervision::tree_atom::value)
        .then([promise](
                  const std::string& tree) { give(promise, json::parse(tree, nullptr, false)); },
              [promise](const caf::error& e) { deny(promise, e); });
    return caf::delegated<served>{};
  }
  if (c.method == "drain" || c.method == "resume") {
    set_draining(self, c.method == "drain");
    return served{json{{"draining", s.is_draining}}};
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
  self->send(s.parts.link, rpc::start_atom::value, s.parts.self, rpc::hello_args{state_of(self)});
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
            self->state.pool.on_enroll(w.uuid, w.enrolled_ms);
            if (--*left == 0) serve_from_now(self);
          });
        if ((*all)->empty()) serve_from_now(self);
      });
}

caf::behavior runner(runner_self self, const runner_parts& parts) {
  supervision::guard(self, "runner");
  self->state.parts = parts;
  self->set_down_handler([self](const caf::down_msg& down) {
    for (const auto& [token, a] : self->state.attempts) {
      if (a.addr != down.source || a.is_over) continue;
      // It ended without a verdict: that is one, and the dispatcher tries again.
      const auto reason = supervision::exit_reason_of(down.reason);
      if (!reason.is_normal())
        self->send(
            self->state.parts.outbox,
            attempt_finished{token, "infrastructure", "the attempt's actor ended: " + reason.text,
                             json::object(), false});
    }
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
            s.heartbeat = milliseconds{
                std::max<std::int64_t>(up.hello.value("heartbeat_ms", std::int64_t{10'000}), 20)};
            s.is_up = true;
            self->send(s.parts.outbox, up);
            beat(self);
            self->delayed_send(self, s.heartbeat, beat_atom::value);
          },
          [self](const rpc::link_lost& lost) {
            self->state.is_up = false;
            self->send(self->state.parts.outbox, lost);
          },
          [self](born_atom, std::uint64_t token, const caf::actor& who) {
            const auto at = self->state.attempts.find(token);
            if (at == self->state.attempts.end()) return;
            at->second.address = who;
            at->second.addr = who->address();
            self->monitor(who);
          },
          [self](const attempt_over& m) { on_over(self, m.token, m.zone_is_broken, m.clean); },
          [self](const attempt_stale& m) { cancel(self, m.token, "the lease is stale"); },
          [self](beat_atom) {
            if (!self->state.is_up) return;
            beat(self);
            self->delayed_send(self, self->state.heartbeat, beat_atom::value);
          },
          [self](tick_atom) {
            self->state.pool.on_tick(now_of(self));
            wake_for_repair(self);
            beat(self);
          },
          [self](ready_atom) -> caf::result<caf::unit_t> {
            if (self->state.is_ready) return caf::unit;
            self->state.waiting.push_back(self->make_response_promise());
            return caf::delegated<caf::unit_t>{};
          },
          [self](drain_atom, bool draining) { set_draining(self, draining); },
          [self](idle_atom) -> std::uint64_t { return self->state.attempts.size(); }};
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
