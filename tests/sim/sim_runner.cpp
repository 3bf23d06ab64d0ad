#include "tests/sim/sim_runner.hpp"

#include "actors/dispatcher/stream_data.hpp"
#include "config/overload.hpp"

namespace ntrace::sim {

using namespace runner;
using nlohmann::json;
using supervision::child_spec;

namespace {

constexpr backoff_policy repair{milliseconds{100}, milliseconds{5000}};
constexpr supervision::supervisor_flags role{supervision::strategy::rest_for_one, 4,
                                             milliseconds{5000}};
constexpr supervision::supervisor_flags dynamic{supervision::strategy::simple_one_for_one, 20,
                                                milliseconds{60'000}};

/// As in tools/wire.cpp, without the port for people.
std::vector<child_spec> children() {
  std::vector<child_spec> out;
  for (const auto* id : {"outbox", "zone_sup", "runner", "attempt_sup", "tunnel", "link"}) {
    child_spec c;
    c.id = id;
    if (c.id.ends_with("_sup")) {
      c.kind = supervision::child_kind::supervisor;
      c.shutdown = supervision::shutdown_policy::infinity();
    }
    c.backoff = {milliseconds{50}, milliseconds{1000}, 2, 0, milliseconds{5000}};
    out.push_back(std::move(c));
  }
  return out;
}

child_spec template_of(const char* id, supervision::restart_type restart) {
  child_spec out;
  out.id = id;
  out.restart = restart;
  return out;
}

std::uint64_t token_of(const std::string& child) {
  return std::stoull(child.substr(child.find('_') + 1));
}
std::string worker_of(const std::string& child) { return child.substr(child.find('_') + 1); }

}  // namespace

sim_runner::sim_runner(world& w, network& net, sim_sshd& sshd, unsigned index, unsigned workers,
                       milliseconds script_max)
    : process{w},
      net_{net},
      index_{index},
      workers_{workers},
      script_us_max_{static_cast<std::uint64_t>(script_max.count()) * 1000},
      random_{w.random.next()},
      tree_{*this,
            w,
            "runner",
            role,
            {},
            {[this](const std::string& child) { bring_up(child); },
             [this](const std::string& child, const std::function<void()>& done) {
               take_down(child, done);
             },
             [this](const std::string& child) { return front_of(child); },
             [this] { crash(milliseconds{500}); }}},
      zone_sup_{*this,
                w,
                "zone_sup",
                dynamic,
                template_of("zone", supervision::restart_type::permanent),
                {[this](const std::string& child) { zones_[worker_of(child)]; },
                 [this](const std::string& child, const std::function<void()>& done) {
                   const auto gone = zones_.extract(worker_of(child));
                   if (gone && gone.mapped().token != 0)
                     world_.note(about(fact_kind::zone_ended, gone.mapped().token, gone.key()));
                   done();
                 },
                 [this](const std::string& child) { return to_zones_.at(child).get(); },
                 [this] {
                   tree_.die("zone_sup", {supervision::exit_kind::failed, "gave up"});
                 }}},
      attempt_sup_{*this,
                   w,
                   "attempt_sup",
                   dynamic,
                   template_of("attempt", supervision::restart_type::temporary),
                   {[this](const std::string& child) { bring_up_attempt(token_of(child)); },
                    [this](const std::string& child, const std::function<void()>& done) {
                      end_attempt(token_of(child));
                      done();
                    },
                    [](const std::string&) { return nullptr; }, [] {}}},
      to_outbox_{*this, w},
      to_runner_{*this, w},
      to_zone_sup_{*this, w},
      to_attempt_sup_{*this, w},
      to_link_{*this, w},
      tunnel_{*this, w, net, sshd, index},
      link_{*this, w, net, to_runner_, [this]() -> stream_ptr {
              if (!tunnel_.is_listening()) return nullptr;
              auto out = net_.connect(network::local);
              tunnel_.accept(out);
              return out;
            }} {
  supervision::facade_options once;
  once.resend = false;
  for (unsigned i = 0; i < workers_; ++i)
    to_zones_["zone_z" + std::to_string(i)] = std::make_unique<sim_facade>(*this, w, once);
  link_.give_hello = [this](const reply& answer) {
    runner_->on_link_lost();
    to_outbox_.tell([this] { outbox_->on_link_lost(); });
    if (is_ready_) return answer(runner_->state());
    asked_for_hello_.push_back(answer);
  };
  link_.take_up = [this](const json& hello) {
    to_outbox_.tell([this] { perform(outbox_->on_link_up()); });
    perform(runner_->on_link_up(now(), milliseconds{hello.value("heartbeat_ms", 2000)},
                                milliseconds{hello.value("lease_ms", 6000)}));
  };
  link_.take_lost = [this] {
    runner_->on_link_lost();
    to_outbox_.tell([this] { outbox_->on_link_lost(); });
  };
  link_.serve = [this](const std::string& method, const json& args, const reply& answer) {
    serve(method, args, answer);
  };
}

fact sim_runner::about(fact_kind kind, std::uint64_t token, const std::string& worker) const {
  fact f;
  f.kind = kind;
  f.who = name();
  f.token = token;
  if (!worker.empty()) f.zone = name() + "/" + worker;
  return f;
}

sim_facade* sim_runner::front_of(const std::string& child) {
  return child == "outbox"        ? &to_outbox_
         : child == "runner"      ? &to_runner_
         : child == "zone_sup"    ? &to_zone_sup_
         : child == "attempt_sup" ? &to_attempt_sup_
         : child == "link"        ? &to_link_
                                  : nullptr;
}

void sim_runner::start() {
  is_alive_ = true;
  ++life_;
  for (auto* front : {&to_outbox_, &to_runner_, &to_zone_sup_, &to_attempt_sup_, &to_link_})
    front->restart();
  for (auto& [id, front] : to_zones_) front->restart();
  tree_.start(children());
}

void sim_runner::crash(milliseconds wait) {
  if (!is_alive_) return;
  is_alive_ = false;
  ++life_;
  for (auto* sup : {&tree_, &zone_sup_, &attempt_sup_}) sup->forget();
  link_.stop();
  tunnel_.stop();
  runner_.reset();
  outbox_.reset();
  attempts_.clear();
  zones_.clear();
  fact f;
  f.kind = fact_kind::crashed;
  f.who = name();
  world_.note(f);
  world_.after(wait, [this] { start(); });
}

void sim_runner::bring_up(const std::string& child) {
  if (child == "outbox")
    outbox_.emplace();
  else if (child == "runner")
    bring_up_runner();
  else if (child == "zone_sup")
    zone_sup_.start({});
  else if (child == "attempt_sup")
    attempt_sup_.start({});
  else if (child == "tunnel")
    tunnel_.start();
  else
    link_.start();
}

void sim_runner::take_down(const std::string& child, const std::function<void()>& done) {
  if (child == "zone_sup") return zone_sup_.stop(done);
  if (child == "attempt_sup") return attempt_sup_.stop(done);
  if (child == "outbox")
    outbox_.reset();
  else if (child == "runner")
    runner_.reset();
  else if (child == "tunnel")
    tunnel_.stop();
  else
    link_.stop();
  done();
}

std::size_t sim_runner::overdue() const {
  std::size_t out = tunnel_.held();
  for (const auto* front : {&to_outbox_, &to_runner_, &to_zone_sup_, &to_attempt_sup_, &to_link_})
    out += front->overdue();
  for (const auto& [id, front] : to_zones_) out += front->overdue();
  return out;
}

void sim_runner::kill_actor(unsigned which) {
  if (!is_alive_) return;
  const supervision::exit_reason why{supervision::exit_kind::failed, "std::runtime_error: as told"};
  std::vector<std::pair<sim_supervisor*, std::string>> all;
  for (const auto* id : {"outbox", "runner", "tunnel", "link"})
    if (tree_.is_up(id)) all.emplace_back(&tree_, id);
  for (const auto& id : zone_sup_.running()) all.emplace_back(&zone_sup_, id);
  if (all.empty()) return;
  const auto& [by, id] = all[which % all.size()];
  world_.met("runner.kill_" + id.substr(0, id.find('_')));
  by->die(id, why);
}

// The runner's actor.

void sim_runner::bring_up_runner() {
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
          for (const auto& answer : std::exchange(asked_for_hello_, {})) answer(runner_->state());
        }));
  }
}

void sim_runner::call(const std::string& method, json args, const reply& then) {
  to_link_.ask([this, method,
                args = std::move(args)](const reply& answer) { link_.call(method, args, answer); },
               then);
}

void sim_runner::serve(const std::string& method, const json& args, const reply& answer) {
  if (method == "offer")
    perform(runner_->on_offer(now(), args));
  else
    stale(args.value("token", std::uint64_t{0}));
  answer(json());
}

void sim_runner::note_stale(std::uint64_t token) {
  if (attempts_.count(token) != 0) world_.note(about(fact_kind::told_stale, token, ""));
  world_.met("runner.stale");
}

void sim_runner::stale(std::uint64_t token) {
  note_stale(token);
  perform(runner_->on_stale(token, "stale"));
}

void sim_runner::begin(const begin_attempt& e) {
  const auto token = e.offer.value("token", std::uint64_t{0});
  specs_.insert_or_assign(token, e);
  to_outbox_.tell([this, token] { outbox_->on_begun(token); });
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
                   call("accept", {{"token", e.token}}, by_runner([this, e](const auto& a) {
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
                   call("refuse", {{"token", e.token}, {"reason", e.reason}}, [](const auto&) {});
                 },
                 [&](const begin_attempt& e) { begin(e); },
                 [&](const cancel_attempt& e) {
                   if (e.reason.starts_with("its lease runs out")) world_.met("runner.lease_ended");
                   if (born_.count(e.token) == 0) {
                     early_cancels_.try_emplace(e.token, e.reason);
                     return;
                   }
                   after_between(1, 100, [this, e] { cancel(e.token, e.reason); });
                 },
                 [&](const lose_attempt& e) {
                   to_outbox_.tell([this, e] {
                     perform(outbox_->on_finished(
                         e.token,
                         {{"verdict", "infrastructure"}, {"reason", e.reason}, {"receipt", {}}},
                         false));
                   });
                 },
                 [&](const runner::end_zone& e) {
                   ask_zone(e.worker, {}, by_runner([this, e](const auto& done) {
                              world_.met(done ? "zone.ended" : "zone.end_failed");
                              perform(runner_->on_zone_ended(now(), e.worker, !done));
                            }));
                 },
                 [](const forget_zone&) {},
                 [&](const send_heartbeat& e) {
                   call("heartbeat", e.state, by_runner([this, e](const auto& a) {
                          if (!a) return;
                          std::vector<std::uint64_t> stale;
                          for (const auto& token : a->value("stale", json::array()))
                            stale.push_back(token.template get<std::uint64_t>());
                          for (const auto token : stale) note_stale(token);
                          perform(runner_->on_heartbeat(e, stale));
                        }));
                 },
                 [&](const runner::look_again& e) {
                   at(e.at, by_runner([this] { perform(runner_->on_tick(now())); }));
                 }},
        one);
  }
  note_workers();
}

void sim_runner::note_workers() {
  const auto& pool = runner_->pool();
  std::uint64_t busy = 0, repairing = 0;
  for (const auto& w : pool.list()) {
    busy += w.state == worker_state::busy ? 1 : 0;
    repairing += w.state == worker_state::repairing ? 1 : 0;
    world_.met("worker." + std::string{to_string(w.state)});
  }
  std::vector<std::uint64_t> seen{pool.size(), pool.free(), busy, repairing,
                                  runner_->attempts() + runner_->zones_ending()};
  if (seen == last_workers_) return;
  last_workers_ = seen;
  auto f = about(fact_kind::workers, 0, "");
  f.n = std::move(seen);
  world_.note(std::move(f));
}

// The outbox's actor.

void sim_runner::perform(const outbox_effects& todo) {
  for (const auto& one : todo) {
    std::visit(
        overload{[&](const runner::say& e) { say(e); },
                 [&](const drop_stale& e) {
                   world_.met("outbox.stale");
                   to_runner_.tell([this, e] { stale(e.token); });
                 },
                 [&](const attempt_done& e) {
                   to_runner_.tell([this, e] {
                     early_cancels_.erase(e.token);
                     perform(runner_->on_attempt_over(e.token, e.zone_is_broken, e.clean));
                   });
                 },
                 [&](const chunk_dropped&) { world_.met("outbox.full"); },
                 [&](const say_again& e) {
                   world_.met("outbox.retry");
                   at(e.at, tree_.only_for("outbox", [this] { perform(outbox_->on_tick(now())); }));
                 }},
        one);
  }
  auto f = about(fact_kind::held_bytes, 0, "");
  f.text = "outbox";
  f.n = {outbox_->bytes(), limits::outbox_bytes_max};
  world_.checker.on(f);
}

void sim_runner::say(const runner::say& e) {
  static constexpr std::array methods{"started", "append", "finish"};
  auto args = e.args;
  if (e.what == outbox_word::chunk) {
    args = {{"token", e.token}, {"seq", e.piece.seq}, {"stream", e.piece.stream}};
    dispatcher::put_chunk_data(args, e.piece.data);
  }
  call(methods[static_cast<std::size_t>(e.what)], std::move(args),
       tree_.only_for("outbox", [this, e](const auto& a) {
         const std::string word = methods[static_cast<std::size_t>(e.what)];
         world_.met("outbox." + word +
                    (a                                   ? ".stored"
                     : a.error().code == ec::stale_lease ? ".stale"
                                                         : ".retried"));
         if (a)
           perform(outbox_->on_stored(now(), e, a->value("ack", std::uint64_t{0})));
         else
           perform(outbox_->on_refused(now(), e.token, a.error()));
       }));
}

}  // namespace ntrace::sim
