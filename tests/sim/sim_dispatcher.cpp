#include "tests/sim/sim_dispatcher.hpp"

#include "actors/rpc/messages/push_messages.hpp"
#include "config/overload.hpp"

namespace ntrace::sim {

using namespace dispatcher;
using nlohmann::json;

namespace {

constexpr const char* consumers_host = "127.0.0.1";

std::vector<supervision::child_spec> children() {
  std::vector<supervision::child_spec> out(3);
  out[0].id = "journal";
  out[1].id = "dispatcher";
  out[2].id = "rpc_server";
  for (auto& c : out) c.backoff = {milliseconds{50}, milliseconds{1000}, 2, 0, milliseconds{5000}};
  return out;
}

json as_json(const rpc::answer_value& value) { return to_json(value); }

/// What must not be begun twice is answered child_failed, as in tools/wire.cpp.
supervision::facade_options once() {
  supervision::facade_options out;
  out.resend = false;
  return out;
}

}  // namespace

sim_dispatcher::sim_dispatcher(world& w, network& net, queue_options options)
    : process{w},
      net_{net},
      options_{std::move(options)},
      tree_{*this,
            w,
            "dispatcher",
            {supervision::strategy::rest_for_one, 4, milliseconds{5000}},
            {},
            {[this](const std::string& child) { bring_up(child); },
             [this](const std::string& child, const std::function<void()>& done) {
               take_down(child);
               done();
             },
             [this](const std::string& child) { return front_of(child); },
             [this] { crash(milliseconds{500}); }}},
      to_journal_{*this, w, once()},
      to_dispatcher_{*this, w, once()},
      to_port_{*this, w} {}

sim_facade* sim_dispatcher::front_of(const std::string& child) {
  return child == "journal" ? &to_journal_ : child == "dispatcher" ? &to_dispatcher_ : &to_port_;
}

void sim_dispatcher::start() {
  is_alive_ = true;
  ++life_;
  gate_ = std::make_unique<push_gate>();
  for (auto* front : {&to_journal_, &to_dispatcher_, &to_port_}) front->restart();
  tree_.start(children());
}

void sim_dispatcher::bring_up(const std::string& child) {
  if (child == "journal") {
    group_ = {};
    writers_.clear();
    retain();
  } else if (child == "rpc_server") {
    intake_.emplace(options_.source_template, *gate_);
    has_round_ = false;
    to_dispatcher_.tell([this, first = next_peer_] {
      note_gone_early(0, first);
      if (queue_) perform(queue_->on_port_opened(now(), first));
    });
  } else if (child == "dispatcher") {
    gate_->on_first(tree_.only_for("dispatcher", [this] {
      after_between(0, 1000, tree_.only_for("dispatcher", [this] { take_pushed(); }));
    }));
    to_journal_.ask(
        [this](const reply& answer) { recover(answer); },
        tree_.only_for("dispatcher", [this](const result<json>& known) {
          if (known) return on_recovered();
          tree_.die("dispatcher", {supervision::exit_kind::failed, known.error().message});
        }));
  }
}

void sim_dispatcher::take_down(const std::string& child) {
  if (child == "rpc_server") {
    intake_.reset();
    pushers_.clear();
    for (const auto& [id, p] : std::exchange(peers_, {})) net_.reset(p.to, false);
  } else if (child == "dispatcher") {
    queue_.reset();
    askers_.clear();
    early_.clear();
    gone_early_.clear();
  } else {
    note_durable(disk_.crash(world_.random.below(2) == 0));
    has_unsynced_ = false;
  }
}

void sim_dispatcher::kill_actor(unsigned which) {
  const auto all = children();
  const auto& child = all[which % all.size()].id;
  if (!is_alive_ || !tree_.is_up(child)) return;
  world_.met("dispatcher.kill_" + child);
  tree_.die(child, {supervision::exit_kind::failed, "std::runtime_error: as told"});
}

void sim_dispatcher::crash(milliseconds wait) {
  if (!is_alive_) return;
  die();
  tree_.forget();
  take_down("rpc_server");
  take_down("dispatcher");
  writers_.clear();
  fact f;
  f.kind = fact_kind::crashed;
  f.who = "dispatcher";
  world_.note(f);
  const bool is_kept = world_.random.below(2) == 0;
  if (std::exchange(has_unsynced_, false))
    world_.met(is_kept ? "disk.unsynced_kept" : "disk.unsynced_lost");
  note_durable(disk_.crash(is_kept));
  world_.after(wait, [this] { start(); });
}

// The dispatcher's actor.

void sim_dispatcher::on_recovered() {
  timer_ = {};
  queue_.emplace(options_, disk_.highest_token(), world_.random.next(), *gate_);
  fact f;
  f.kind = fact_kind::recovered;
  f.runs = disk_.open_runs();
  world_.note(f);
  const auto flag = disk_.durable().flags.find(journal::draining_flag);
  queue_->on_drain_recovered(flag != disk_.durable().flags.end() && flag->second);
  perform(queue_->on_recovered(now(), wall_now_ms(), f.runs));
  queue_->on_recovery_end();
  for (const auto& [c, answer] : std::exchange(early_, {})) serve(c, answer);
  for (const auto id : std::exchange(gone_early_, {})) perform(queue_->on_session_gone(now(), id));
}

void sim_dispatcher::note_gone_early(std::uint64_t from, std::uint64_t to) {
  for (const auto& [c, answer] : early_)
    if (c.peer >= from && c.peer < to) gone_early_.insert(c.peer);
}

void sim_dispatcher::take_pushed() {
  if (queue_) perform(queue_->on_pushed(now()));
}

void sim_dispatcher::note_expiry(const journal::batch& ops) {
  for (const auto& op : ops) {
    const auto* ended = std::get_if<journal::end_attempt>(&op);
    if (!ended || !ended->is_expired) continue;
    fact f;
    f.kind = fact_kind::lease_expired;
    f.token = ended->token;
    world_.note(std::move(f));
  }
}

void sim_dispatcher::commit(dispatcher::commit& e) {
  note_expiry(e.ops);
  const bool is_revive = std::holds_alternative<journal::revive>(e.ops.front());
  to_journal_.ask(
      [this, ops = std::move(e.ops)](const reply& answer) {
        writers_[next_write_] = answer;
        perform(group_.on_write(next_write_++, ops));
      },
      tree_.only_for("dispatcher", [this, tag = e.tag, is_revive](const result<json>& said) {
        const auto done = committed_from(said);
        if (is_revive && done)
          world_.met(done->is_stale ? "queue.revive_refused" : "queue.revived");
        perform(queue_->on_committed(now(), tag, done));
      }));
}

void sim_dispatcher::perform(effects todo) {
  for (auto& one : todo) {
    std::visit(
        overload{[&](dispatcher::commit& e) { commit(e); },
                 [&](const dispatcher::answer& e) {
                   const auto who = askers_.extract(e.request);
                   if (!who) return;
                   const auto value = e.value.map(as_json);
                   note_answer(who.mapped(), value);
                   who.mapped().answer(value);
                 },
                 [&](const offer& e) {
                   world_.met("queue.offer");
                   to_port_.tell(
                       [this, e] { notify(e.session, "offer", json::array({to_json(e.run)})); });
                 },
                 [&](const abort_attempt& e) {
                   world_.met("queue.abort");
                   to_port_.tell([this, e] {
                     notify(e.session, "abort", json::array({to_json(rpc::about_token{e.token})}));
                   });
                 },
                 [&](const dispatcher::wake& e) {
                   if (!timer_.set(e.at)) return;
                   at(e.at, tree_.only_for("dispatcher", [this] {
                     if (!timer_.ring(now())) return;
                     take_pushed();
                     perform(queue_->on_tick(now()));
                   }));
                 },
                 [](const changed&) {}},
        one);
  }
}

void sim_dispatcher::note_answer(const asker& of, const result<json>& value) {
  const auto& c = of.asked;
  world_.met(c.method + (value ? ".ok" : "." + std::string{to_string(value.error().code)}));
  // A document that is known is not refused, whether its run is still the consumer's or not.
  if (c.method == "result" && value && !value->value("duplicate", false))
    for (const auto& [token, a] : disk_.durable().attempts)
      if (a.run_id == c.args.at(0).value("run_id", "")) renew(token, of.heard);
  if (c.method != "finish" || value || value.error().code != ec::gap) return;
  fact f;
  f.kind = fact_kind::verdict_early;
  f.who = names_[c.peer];
  world_.note(std::move(f));
}

void sim_dispatcher::serve(const call& c, const reply& answer) {
  if (!queue_) {
    early_.emplace_back(c, answer);
    return;
  }
  take_pushed();
  const auto request = next_request_++;
  askers_[request] = {c, answer, now()};
  if (c.method == "requeue") return requeue(request, c.args.at(0).get<std::string>());
  perform(step(c, request));
}

void sim_dispatcher::renew(std::uint64_t token, time_point heard) {
  fact f;
  f.kind = fact_kind::renewed;
  f.token = token;
  const auto since = std::chrono::duration_cast<milliseconds>(now() - heard).count();
  if (since > 0) f.n = {static_cast<std::uint64_t>(since)};
  world_.note(std::move(f));
}

effects sim_dispatcher::step(const call& c, std::uint64_t request) {
  const auto at = now();
  if (c.method == "next") return queue_->on_next(at, c.peer, consumers_host, request);
  if (c.method == "drain" || c.method == "resume")
    return queue_->on_drain(at, request, c.method == "drain");
  if (c.method == "cancel") return queue_->on_cancel(at, request, c.args.at(0).get<std::string>());
  const auto heard = [&](auto parse, const json& value, auto then) {
    const auto message = parse(value);
    return message ? then(*message) : effects{dispatcher::answer{request, fail(message.error())}};
  };
  if (c.method == "result")
    return heard(rpc::parse_result_doc, c.args, [&](const auto& doc) {
      return queue_->on_result(at, c.peer, consumers_host, request, doc);
    });
  const auto& first = c.args.at(0);
  if (c.method == "hello")
    return heard(rpc::parse_runner_report, first, [&](const auto& m) {
      names_[c.peer] = m.name;
      return queue_->on_hello(at, c.peer, request, m);
    });
  if (c.method == "accept")
    return heard(rpc::parse_about_token, first, [&](const auto& m) {
      renew(m.token, at);
      return queue_->on_accept(at, c.peer, request, m);
    });
  if (c.method == "refuse")
    return heard(rpc::parse_refuse, first,
                 [&](const auto& m) { return queue_->on_refuse(at, c.peer, request, m); });
  if (c.method == "started")
    return heard(rpc::parse_started, first, [&](const auto& m) {
      renew(m.token, at);
      return queue_->on_started(at, request, m);
    });
  if (c.method == "heartbeat")
    return heard(rpc::parse_runner_report, first, [&](const auto& m) {
      for (const auto& a : m.attempts) renew(a.token, at);
      return queue_->on_heartbeat(at, c.peer, request, m);
    });
  if (c.method == "append")
    return heard(rpc::parse_append, first,
                 [&](const auto& m) { return queue_->on_append(at, request, m); });
  return heard(rpc::parse_finish, first,
               [&](const auto& m) { return queue_->on_finish(at, request, m); });
}

void sim_dispatcher::requeue(std::uint64_t request, const std::string& run) {
  const auto row = disk_.find(run);
  // What was read may be deleted before anything can be written of it.
  if (row && world_.random.below(4) == 0)
    after_between(0, 3000, tree_.only_for("journal", [this] { delete_ended(); }));
  if (row) return perform(queue_->on_requeue(now(), request, *row));
  perform(effects{dispatcher::answer{request, fail(ec::not_found, "no such run")}});
}

}  // namespace ntrace::sim
