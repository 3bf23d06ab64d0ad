#include "tests/sim/sim_runner.hpp"

#include "config/backoff.hpp"
#include "config/overload.hpp"

namespace ntrace::sim {

using namespace runner;
using nlohmann::json;

namespace {

constexpr backoff_policy redial{milliseconds{50}, milliseconds{2000}};
constexpr backoff_policy repair{milliseconds{100}, milliseconds{5000}};

/// What the script of a run does is the run's own: the same at each attempt.
std::uint64_t fate_of(const std::string& run) {
  std::uint64_t out = 14695981039346656037ull;  // FNV-1a
  for (const char c : run) out = (out ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return out >> 20;
}

}  // namespace

fact sim_runner::about(fact_kind kind, std::uint64_t token, const std::string& worker) const {
  fact f;
  f.kind = kind;
  f.who = name();
  f.token = token;
  if (!worker.empty()) f.zone = name() + "/" + worker;
  return f;
}

void sim_runner::start() {
  is_alive_ = true;
  ++life_;
  runner_.emplace(name(), repair, random_.next());
  outbox_ = {};
  attempts_.clear();
  zone_of_.clear();
  calls_.clear();
  link_.reset();
  for (unsigned i = 0; i < workers_; ++i)
    perform(runner_->on_enrolled(now(), "z" + std::to_string(i), 0));
  dial();
}

void sim_runner::crash(milliseconds wait) {
  if (!is_alive_) return;
  is_alive_ = false;
  ++life_;
  net_.cut_all(index_, milliseconds{20});
  fact f;
  f.kind = fact_kind::crashed;
  f.who = name();
  world_.note(f);
  runner_.reset();
  world_.after(wait, [this] { start(); });
}

void sim_runner::dial() {
  after_between(100, 2000, [this] {
    if (!net_.can_connect(index_) || !listens_()) {
      world_.met("link.dial_failed");
      after(backoff_wait(redial, dials_++, random_), [this] { dial(); });
      return;
    }
    link_ = net_.connect(index_);
    call("hello", runner_->state(), "", [this](const result<json>& answer) {
      if (!answer) return;
      dials_ = 0;
      world_.met("link.up");
      perform(outbox_.on_link_up());
      perform(runner_->on_link_up(now(), milliseconds{answer->value("heartbeat_ms", 2000)},
                                  milliseconds{answer->value("lease_ms", 6000)}));
    });
  });
}

void sim_runner::call(const std::string& method, json args, std::string data, on_reply then) {
  if (!link_) return then(fail(ec::connection_lost, "no link"));
  const auto id = next_call_++;
  calls_[id] = std::move(then);
  net_.send(link_, true,
            {message::kind::request, id, method, std::move(args), std::move(data), {}});
}

void sim_runner::lose_link() {
  link_.reset();
  runner_->on_link_lost();
  outbox_.on_link_lost();
  for (auto& [id, then] : std::exchange(calls_, {})) then(fail(ec::connection_lost, "lost"));
  world_.met("link.lost");
  after(backoff_wait(redial, dials_++, random_), [this] { dial(); });
}

void sim_runner::on_stream_end(const std::shared_ptr<stream>& s) {
  if (is_alive_ && link_ == s) lose_link();
}

void sim_runner::on_message(const std::shared_ptr<stream>& s, const message& m) {
  if (!is_alive_ || link_ != s) return;
  if (m.what == message::kind::reply) {
    const auto at = calls_.find(m.id);
    if (at == calls_.end()) return;
    const auto then = std::move(at->second);
    calls_.erase(at);
    return then(m.value);
  }
  if (m.method == "offer") return perform(runner_->on_offer(now(), m.args));
  stale(m.args.value("token", std::uint64_t{0}));
}

void sim_runner::note_stale(std::uint64_t token) {
  if (attempts_.count(token) != 0) world_.note(about(fact_kind::told_stale, token, ""));
  world_.met("runner.stale");
}

void sim_runner::stale(std::uint64_t token) {
  note_stale(token);
  perform(runner_->on_stale(token, "stale"));
}

void sim_runner::perform(const runner_effects& todo) {
  for (const auto& one : todo) {
    std::visit(
        overload{
            [&](const accept_offer& e) {
              call("accept", {{"token", e.token}}, "", [this, e](const auto& a) {
                if (!a) {
                  world_.met("runner.not_accepted");
                  return perform(runner_->on_not_accepted(now(), e.token));
                }
                world_.note(about(fact_kind::lease_begun, e.token, ""));
                perform(runner_->on_accepted(e));
              });
            },
            [&](const refuse_offer& e) {
              world_.met("runner.refused");
              call("refuse", {{"token", e.token}, {"reason", e.reason}}, "", [](const auto&) {});
            },
            [&](const begin_attempt& e) { begin(e); },
            [&](const cancel_attempt& e) {
              if (e.reason.starts_with("its lease runs out")) world_.met("runner.lease_ended");
              if (const auto at = attempts_.find(e.token); at != attempts_.end()) {
                at->second.is_cancelled = true;
                at->second.fsm.on_cancel(e.reason);
                break_step(e.token, {ec::cancelled, e.reason, {}});
              }
            },
            [&](const lose_attempt& e) {
              perform(outbox_.on_finished(
                  e.token, {{"verdict", "infrastructure"}, {"reason", e.reason}, {"receipt", {}}},
                  false));
            },
            [&](const runner::end_zone& e) { end_zone(e.worker); }, [](const forget_zone&) {},
            [&](const send_heartbeat& e) {
              call("heartbeat", e.state, "", [this, e](const auto& a) {
                if (!a) return;
                std::vector<std::uint64_t> stale;
                for (const auto& token : a->value("stale", json::array()))
                  stale.push_back(token.template get<std::uint64_t>());
                for (const auto token : stale) note_stale(token);
                perform(runner_->on_heartbeat(e, stale));
              });
            },
            [&](const runner::look_again& e) {
              after(std::max(time_point::duration{0}, e.at - now()),
                    [this] { perform(runner_->on_tick(now())); });
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
  std::vector<std::uint64_t> now{pool.size(), pool.free(), busy, repairing,
                                 runner_->attempts() + runner_->zones_ending()};
  if (now == last_workers_) return;
  last_workers_ = now;
  auto f = about(fact_kind::workers, 0, "");
  f.n = std::move(now);
  world_.note(std::move(f));
}

void sim_runner::perform(const outbox_effects& todo) {
  for (const auto& one : todo) {
    std::visit(overload{[&](const runner::say& e) { say(e); },
                        [&](const drop_stale& e) {
                          world_.met("outbox.stale");
                          stale(e.token);
                        },
                        [&](const attempt_done& e) {
                          if (runner_)
                            perform(runner_->on_attempt_over(e.token, e.zone_is_broken, e.clean));
                        },
                        [&](const chunk_dropped&) { world_.met("outbox.full"); },
                        [&](const say_again& e) {
                          world_.met("outbox.retry");
                          after(e.at - now(), [this] { perform(outbox_.on_tick(now())); });
                        }},
               one);
  }
  auto f = about(fact_kind::held_bytes, 0, "");
  f.text = "outbox";
  f.n = {outbox_.bytes(), limits::outbox_bytes_max};
  world_.checker.on(f);
}

void sim_runner::say(const runner::say& e) {
  static constexpr std::array methods{"started", "append", "finish"};
  auto args = e.args;
  if (e.what == outbox_word::chunk)
    args = {{"token", e.token}, {"seq", e.piece.seq}, {"stream", e.piece.stream}};
  call(methods[static_cast<std::size_t>(e.what)], std::move(args), e.piece.data,
       [this, e](const auto& a) {
         if (a)
           perform(outbox_.on_stored(now(), e, a->value("ack", std::uint64_t{0})));
         else
           perform(outbox_.on_refused(now(), e.token, a.error()));
       });
}

void sim_runner::begin(const begin_attempt& e) {
  const auto token = e.offer.value("token", std::uint64_t{0});
  const auto at = attempts_.insert_or_assign(
      token, attempt{attempt_fsm{e.worker}, e.offer.value("run", ""), e.worker, 0, 0, {}, false});
  perform(token, at.first->second.fsm.on_start(now()));
}

void sim_runner::perform(std::uint64_t token, const attempt_effects& todo) {
  for (const auto& one : todo) {
    const auto at = attempts_.find(token);
    if (at == attempts_.end()) return;
    auto& a = at->second;
    std::visit(
        overload{[&](const runner::perform& e) { do_step(token, e.what); },
                 [&](const report&) {
                   perform(outbox_.on_chunk(
                       token, "stdout", std::to_string(token) + ":" + std::to_string(++a.chunks)));
                 },
                 [&](const started& e) {
                   perform(outbox_.on_started(token, {{"token", token}, {"zone", e.zone}},
                                              {{"ok", true}}));
                 },
                 [&](const finish& e) {
                   world_.met("attempt." + e.verdict);
                   const json receipt{{"chunks", a.chunks}};
                   world_.note(about(fact_kind::attempt_over, token, ""));
                   attempts_.erase(at);
                   perform(outbox_.on_finished(
                       token, {{"verdict", e.verdict}, {"reason", e.reason}, {"receipt", receipt}},
                       e.zone_is_broken));
                 }},
        one);
  }
}

step_outcome sim_runner::outcome_of(const attempt& a, step what) {
  step_outcome out;
  const auto fate = fate_of(a.run);
  const auto chance = random_.below(100);
  switch (what) {
    case step::rollback:
      out.receipt = {{"ok", chance >= 3}};
      if (chance >= 97) out.failed = {ec::zone_failed, "rollback failed", {}};
      break;
    case step::fetch:
      out.package_json = fate % 11 == 0 ? R"({"name":"x"})"
                         : fate % 2 == 0
                             ? R"({"scripts":{"benchmark":"x"},"dependencies":{"a":"1"}})"
                             : R"({"scripts":{"test":"x"}})";
      if (chance < 3) out.failed = {ec::unreachable, "no route", {}};
      break;
    case step::install:
      if (fate % 13 == 0) out.failed = {ec::install_failed, "npm", {}};
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
  const auto number = ++a.steps;
  if (what == step::rollback) {
    zone_of_[a.worker] = token;
    world_.note(about(fact_kind::zone_begun, token, a.worker));
  } else {
    world_.note(about(fact_kind::zone_used, token, a.worker));
  }
  if (what != step::profiler) a.at = what;
  const auto outcome = outcome_of(a, what);
  const std::uint64_t longest_us = what == step::run ? script_us_max_ : 150'000;
  after_between(1000, longest_us,
                [this, token, what, number, outcome] { end_step(token, what, number, outcome); });
}

void sim_runner::end_step(std::uint64_t token, step what, std::uint64_t number,
                          const step_outcome& outcome) {
  const auto at = attempts_.find(token);
  if (at == attempts_.end() ||
      (what != step::profiler && at->second.steps != number && at->second.at != what))
    return;
  if (what == step::rollback && outcome.failed.code == ec::none &&
      outcome.receipt.value("ok", false))
    world_.note(about(fact_kind::zone_proved, token, at->second.worker));
  world_.met("step." + std::string{to_string(what)} +
             (outcome.failed.code == ec::none ? ".ok" : ".failed"));
  perform(token, at->second.fsm.on_done(now(), what, outcome));
}

void sim_runner::break_step(std::uint64_t token, const error& why) {
  after_between(100, 20'000, [this, token, why] {
    const auto at = attempts_.find(token);
    if (at == attempts_.end() || !at->second.at) return;
    step_outcome out;
    out.failed = why;
    perform(token, at->second.fsm.on_done(now(), *at->second.at, out));
  });
}

void sim_runner::end_zone(const std::string& worker) {
  after_between(1000, 100'000, [this, worker] {
    const auto at = zone_of_.find(worker);
    world_.note(about(fact_kind::zone_ended, at == zone_of_.end() ? 0 : at->second, worker));
    if (at != zone_of_.end()) zone_of_.erase(at);
    const bool is_broken = random_.below(50) == 0;
    world_.met(is_broken ? "zone.end_failed" : "zone.ended");
    perform(runner_->on_zone_ended(now(), worker, is_broken));
  });
}

void sim_runner::kill_zone() {
  if (!is_alive_ || attempts_.empty()) return;
  world_.met("zone.killed");
  break_step(attempts_.begin()->first, {ec::init_died, "init died", {}});
}

void sim_runner::kill_attempt() {
  if (!is_alive_ || attempts_.empty()) return;
  world_.met("attempt.killed");
  const auto token = attempts_.begin()->first;
  world_.note(about(fact_kind::attempt_over, token, ""));
  attempts_.erase(token);
  perform(runner_->on_attempt_died(token, "std::runtime_error: as told"));
}

}  // namespace ntrace::sim
