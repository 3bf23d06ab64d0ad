#include "tests/sim/simulation.hpp"

#include <algorithm>
#include <array>

#include "tests/sim/sim_consumer.hpp"
#include "tests/sim/sim_dispatcher.hpp"
#include "tests/sim/sim_runner.hpp"

namespace ntrace::sim {
namespace {

constexpr milliseconds quiet_phase{180'000};  // Liveness must hold by then.
constexpr milliseconds quiet_slice{20'000};   // Between looks whether they hold already.
constexpr milliseconds client_timeout{5000};

dispatcher::queue_options queue_options() {
  dispatcher::queue_options out;
  out.lease = milliseconds{6000};
  out.offer = milliseconds{1000};
  out.consumer_silence = milliseconds{9000};
  out.backoff = {milliseconds{200}, milliseconds{3000}};
  out.outage_patience = milliseconds{40'000};  // Longer than any fault, shorter than all of them.
  return out;
}

test::check_options check_options() {
  return {queue_options().lease, milliseconds{30'000}, queue_options().attempts,
          queue_options().outage_patience};
}

/// The whole system, its clients, and what befalls it.
class system {
public:
  explicit system(const run_options& options)
      : options_{options},
        world_{options.seed, check_options(), options.keeps_history},
        runner_count_{1 + static_cast<unsigned>(world_.random.below(3))},
        net_{world_, runner_count_},
        sshd_{world_, net_},
        dispatcher_{world_, net_, queue_options()} {
    // Where scripts outlive a lease, only heartbeats keep it.
    static constexpr std::array script_max{1000, 5000, 15'000};
    const milliseconds longest{script_max[world_.random.below(script_max.size())]};
    for (unsigned i = 0; i < runner_count_; ++i)
      runners_.push_back(std::make_unique<sim_runner>(
          world_, net_, sshd_, i, 1 + static_cast<unsigned>(world_.random.below(3)), longest));
    sshd_.connect_target = [this](const stream_ptr& s) { return dispatcher_.accept(s); };
    // In most runs the runners have all the work.
    if (world_.random.below(4) == 0)
      consumer_.emplace(world_, net_,
                        [this](const stream_ptr& s) { return dispatcher_.accept(s); });
  }

  run_outcome run() {
    run_outcome out;
    dispatcher_.start();
    for (auto& r : runners_) r->start();
    if (consumer_) consumer_->start();
    plan_pushes(out);
    // The plan is drawn whole whichever of it is used, so that leaving faults out changes no other.
    auto plan = draw_faults(world_.random, fault_phase, runner_count_);
    if (options_.plan) plan = *options_.plan;
    for (auto f : plan) {
      f.target %= runner_count_;
      if (options_.faults && std::find(options_.faults->begin(), options_.faults->end(),
                                       f.number) == options_.faults->end())
        continue;
      out.faults.push_back(f);
      world_.after(f.at, [this, f] { strike(f); });
    }
    world_.run_until(time_point{} + fault_phase);
    note(fact_kind::quiet);
    if (consumer_) consumer_->retire();
    // Somebody looks after the storm, and brings back what was given up.
    if (world_.random.below(2) == 0)
      for (const auto& [key, run] : runs_)
        if (const auto row = dispatcher_.disk().find(run);
            row && row->state == domain::run_state::quarantined)
          requeue(key);
    for (auto quiet_for = quiet_slice; quiet_for <= quiet_phase; quiet_for += quiet_slice) {
      world_.run_until(time_point{} + fault_phase + quiet_for);
      if (is_at_rest()) break;
    }
    note_end();
    out.violations = world_.checker.violations();
    out.steps = world_.steps;
    out.digest = world_.digest.hex();
    out.seen = world_.seen;
    for (const auto& [name, n] : world_.checker.met()) out.seen["invariant." + name] += n;
    for (const auto& [name, n] : world_.checker.transitions()) out.seen["run." + name] += n;
    out.history = std::move(world_.history);
    return out;
  }

private:
  void plan_pushes(run_outcome& out) {
    const auto pushes = 1 + static_cast<unsigned>(world_.random.below(12));
    for (unsigned i = 0; i < pushes; ++i) {
      domain::push_request p;
      p.owner = "o" + std::to_string(world_.random.below(3));
      p.repo = "r";
      p.sha = std::string(40, 'a');
      p.key = "key" + std::to_string(i);
      p.priority = static_cast<std::int64_t>(world_.random.below(2));
      const auto at = milliseconds{world_.random.below(50'000)};
      const bool twice = world_.random.below(5) == 0;
      const bool is_cancelled = world_.random.below(6) == 0;
      const bool is_requeued = world_.random.below(6) == 0;
      const bool is_reused = world_.random.below(6) == 0;
      const auto wish = milliseconds{world_.random.below(8000)};
      if (world_.random.below(6) == 0)
        p.deadline_ms = 1000 + static_cast<std::int64_t>(world_.random.below(15'000));
      if (i >= options_.pushes_max) continue;
      ++out.pushes;
      world_.after(at, [this, p] { push(p); });
      if (twice) world_.after(at + milliseconds{wish.count() % 50}, [this, p] { push(p); });
      if (is_cancelled) world_.after(at + wish, [this, p] { cancel(p.key); });
      if (is_cancelled && twice) world_.after(at + wish, [this, p] { cancel(p.key); });
      if (is_requeued) world_.after(at + wish * 2, [this, p] { requeue(p.key); });
      if (is_reused) world_.after(at + wish, [this, p] { reuse_key(p); });
    }
    const auto at = milliseconds{world_.random.below(50'000)};
    const auto lasts = milliseconds{world_.random.below(10'000)};
    if (world_.random.below(6) == 0)
      world_.after(at, [this, lasts] {
        insist("drain", [this, lasts] {
          note(fact_kind::drain_acked);
          world_.after(lasts, [this] {
            note(fact_kind::resume_sent);
            insist("resume", [] {});
          });
        });
      });
  }

  void note(fact_kind kind) {
    fact f;
    f.kind = kind;
    world_.note(std::move(f));
  }

  /// Asks until the answer is yes.
  void insist(const std::string& method, const std::function<void()>& then) {
    ask(method, nlohmann::json::array(), false, [=, this](const result<nlohmann::json>& a) {
      if (a) return then();
      world_.after(milliseconds{500}, [=, this] { insist(method, then); });
    });
  }

  /// One request over a connection of its own, as `ntrace` and nc make it; `then` hears an error
  /// when there is no answer in time.
  /// `half_closes`: as nc does at the end of its input.
  void ask(const std::string& method, nlohmann::json args, bool half_closes, const reply& then) {
    const auto to = net_.connect(network::local);
    if (!dispatcher_.accept(to)) {
      world_.met("client.refused");
      return world_.after(milliseconds{1}, [then] { then(fail(ec::unreachable, "refused")); });
    }
    struct state {
      net::rpc_session session;
      reply then;
    };
    const auto client = std::make_shared<state>();
    client->then = then;
    const auto end = [this, to, client](const result<nlohmann::json>& value) {
      if (!client->then) return;
      net_.reset(to, true);
      std::exchange(client->then, {})(value);
    };
    to->caller.on_frame = [client, end](const frame& f) {
      for (const auto& event : client->session.on_bytes(f.data))
        if (const auto* answer = std::get_if<net::rpc_answer>(&event)) return end(answer->value);
    };
    to->caller.on_broken = [end] { end(fail(ec::connection_lost, "broken")); };
    client->session.call(method, args);
    net_.send_bytes(to, true, client->session.take_output());
    if (half_closes) {
      world_.met("client.half_closed");
      net_.send(to, true, {frame::kind::end, 0, {}});
    }
    world_.after(client_timeout, [end] { end(fail(ec::timed_out, "no answer")); });
  }

  /// Half of the people use nc.
  static bool is_nc(const std::string& key) { return (key.back() - '0') % 2 == 0; }

  /// Sends until there is an answer that says yes, with the same key.
  void push(const domain::push_request& p) {
    fact sent;
    sent.kind = fact_kind::sent;
    sent.text = p.key;
    sent_.insert(p.key);
    world_.note(std::move(sent));
    nlohmann::json wishes{{"key", p.key}, {"priority", p.priority}};
    if (p.deadline_ms != 0) wishes["deadline_ms"] = p.deadline_ms;
    const nlohmann::json args{p.owner, p.repo, p.sha, wishes};
    ask("push", args, is_nc(p.key), [this, p](const result<nlohmann::json>& a) {
      // It was acknowledged and deleted since, and then another push took the key.
      if (!a && a.error().code == ec::key_conflict && runs_.count(p.key) != 0) return;
      if (!a) return world_.after(milliseconds{500}, [this, p] { push(p); });
      runs_[p.key] = a->value("run", "");
      note_acked(p, runs_[p.key]);
    });
  }

  void note_acked(const domain::push_request& p, const std::string& run) {
    fact acked;
    acked.kind = fact_kind::acked;
    acked.run = run;
    acked.text = p.key;
    acked.who = p.sha;
    world_.note(std::move(acked));
  }

  /// Pushes another commit with the key of one that was acknowledged. It may be taken only where
  /// the journal keeps that one no longer.
  void reuse_key(domain::push_request p) {
    if (runs_.count(p.key) == 0) return;
    p.sha = std::string(40, 'b');
    const nlohmann::json args{p.owner, p.repo, p.sha, {{"key", p.key}, {"priority", p.priority}}};
    ask("push", args, is_nc(p.key), [this, p](const result<nlohmann::json>& a) {
      if (a) return note_acked(p, a->value("run", ""));
      if (a.error().code == ec::key_conflict) world_.met("client.key_conflict");
    });
  }

  void cancel(const std::string& key) {
    const auto at = runs_.find(key);
    if (at == runs_.end()) return;
    ask("cancel", {at->second}, is_nc(key),
        [this, run = at->second](const result<nlohmann::json>& a) {
          if (!a || a->value("state", "") != "cancelled") return;
          fact f;
          f.kind = fact_kind::cancel_acked;
          f.run = run;
          world_.note(std::move(f));
        });
  }

  void requeue(const std::string& key) {
    if (const auto at = runs_.find(key); at != runs_.end())
      ask("requeue", {at->second}, is_nc(key), [](const result<nlohmann::json>&) {});
  }

  void strike(const fault& f) {
    world_.met("fault." + std::string{to_string(f.kind)});
    auto& runner = *runners_[f.target];
    switch (f.kind) {
      case fault_kind::crash_dispatcher:
        return dispatcher_.crash(f.lasts);
      case fault_kind::crash_runner:
        return runner.crash(f.lasts);
      case fault_kind::break_link:
        return net_.cut_path(f.target, milliseconds{5});
      case fault_kind::half_open:
        return net_.cut_path(f.target, f.lasts * 2);
      case fault_kind::partition:
        return net_.partition(f.target, f.lasts);
      case fault_kind::disk_full:
        return dispatcher_.fill_disk(f.lasts);
      case fault_kind::sync_error:
        return dispatcher_.fail_syncs(f.lasts);
      case fault_kind::slow_disk:
        return dispatcher_.slow_disk(f.lasts);
      case fault_kind::kill_zone:
        return runner.kill_zone();
      case fault_kind::kill_attempt:
        return runner.when_running([&runner] { runner.kill_attempt(); });
      case fault_kind::kill_actor:
        return kill_actor(f, f.lasts > milliseconds{8000} ? 12 : 1);
      case fault_kind::kill_session:
        return sshd_.kill_sessions(f.target);
      case fault_kind::stop_sshd:
        return sshd_.stop_for(f.lasts);
      case fault_kind::drain_tunnel:
        return runner.when_running([&runner, f] { runner.drain_tunnel(f.lasts); });
      case fault_kind::outbox_full:
        return runner.fill_disk(f.lasts);
      case fault_kind::refuse_key:
        sshd_.refuse_for(f.lasts);
        return sshd_.kill_sessions(f.target);
      case fault_kind::freeze_sshd:
        return sshd_.freeze_for(f.lasts);
      case fault_kind::wall_jump:
        return dispatcher_.jump_wall(static_cast<std::int64_t>(f.lasts.count()) * 1000 *
                                     (f.number % 2 == 0 ? 1 : -1));
      case fault_kind::crowd_journal:
        return dispatcher_.when_running([this, f] { dispatcher_.crowd_journal(f.lasts); });
      case fault_kind::forge_away:
        world_.forge_back = std::max(world_.forge_back, world_.now() + f.lasts);
        return;
      case fault_kind::registry_away:
        world_.registry_back = std::max(world_.registry_back, world_.now() + f.lasts);
        return;
      case fault_kind::stop_runner:
        return runner.stop_for(f.lasts);
      case fault_kind::stop_dispatcher:
        return dispatcher_.stop_for(f.lasts);
    }
  }

  /// Many `times`: what it starts with fails again and again, until its supervisor gives up.
  void kill_actor(const fault& f, unsigned times) {
    if (f.number % 2 == 0)
      dispatcher_.when_running([this, f] { dispatcher_.kill_actor(f.number / 2); });
    else
      runners_[f.target]->when_running([this, f] { runners_[f.target]->kill_actor(f.number / 2); });
    if (times > 1) world_.after(milliseconds{100}, [this, f, times] { kill_actor(f, times - 1); });
  }

  bool is_at_rest() const {
    const auto left = what_is_left();
    return std::all_of(left.begin(), left.end(), [](auto n) { return n == 0; }) &&
           dispatcher_.disk().open_runs().empty();
  }

  void note_end() {
    fact f;
    f.kind = fact_kind::finished;
    f.n = what_is_left();
    world_.note(std::move(f));
  }

  /// In the order of fact_kind::finished.
  std::vector<std::uint64_t> what_is_left() const {
    std::vector<std::uint64_t> n = {0, 0, 0, 0, dispatcher_.overdue(), 0};
    for (const auto& r : runners_) {
      n[4] += r->overdue();
      n[0] += r->outbox_entries();
      n[1] += r->is_linked() ? 0 : 1;
      n[2] += r->busy();
      n[3] += r->repairing();
    }
    for (const auto& key : sent_) n[5] += runs_.count(key) == 0 ? 1 : 0;
    return n;
  }

  run_options options_;
  world world_;
  unsigned runner_count_;
  network net_;
  sim_sshd sshd_;
  sim_dispatcher dispatcher_;
  std::vector<std::unique_ptr<sim_runner>> runners_;
  std::optional<sim_consumer> consumer_;
  std::set<std::string> sent_;               ///< Keys.
  std::map<std::string, std::string> runs_;  ///< Key → acknowledged run.
};

}  // namespace

run_outcome simulate(const run_options& options) { return system{options}.run(); }

run_options shrink(const run_options& failing, const std::string& invariant, unsigned tries) {
  const auto still_fails = [&](const run_options& o) {
    if (tries == 0) return false;
    --tries;
    const auto seen = simulate(o).violations;
    return std::any_of(seen.begin(), seen.end(),
                       [&](const auto& v) { return v.invariant == invariant; });
  };
  auto best = failing;
  best.faults.emplace();
  for (const auto& f : simulate(failing).faults) best.faults->push_back(f.number);
  for (auto piece = best.faults->size(); piece > 0; piece /= 2) {
    for (std::size_t at = 0; at < best.faults->size();) {
      auto smaller = best;
      const auto end = std::min(at + piece, best.faults->size());
      smaller.faults->erase(smaller.faults->begin() + static_cast<std::ptrdiff_t>(at),
                            smaller.faults->begin() + static_cast<std::ptrdiff_t>(end));
      if (still_fails(smaller))
        best = std::move(smaller);
      else
        at = end;
    }
  }
  for (auto pushes = simulate(best).pushes; pushes > 1; --pushes) {
    auto smaller = best;
    smaller.pushes_max = pushes - 1;
    if (!still_fails(smaller)) break;
    best = std::move(smaller);
  }
  return best;
}

}  // namespace ntrace::sim
