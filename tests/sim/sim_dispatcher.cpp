#include "tests/sim/sim_dispatcher.hpp"

#include <cstdio>

#include "config/mutation.hpp"
#include "config/overload.hpp"

namespace ntrace::sim {

using namespace dispatcher;
using nlohmann::json;

namespace {

using supervision::child_spec;

constexpr supervision::restart_backoff backoff{milliseconds{50}, milliseconds{1000}, 2, 0,
                                               milliseconds{5000}};

std::vector<child_spec> children() {
  std::vector<child_spec> out(3);
  out[0].id = "journal";
  out[1].id = "dispatcher";
  out[2].id = "rpc_server";
  for (auto& c : out) c.backoff = backoff;
  return out;
}

}  // namespace

void sim_dispatcher::start() {
  is_alive_ = true;
  ++life_;
  incarnations_.clear();
  lone_death_.reset();
  tree_.emplace(
      supervision::supervisor_flags{supervision::strategy::rest_for_one, 4, milliseconds{5000}},
      std::nullopt, world_.random.next());
  perform_tree(*tree_->on_start(now(), children()));
}

void sim_dispatcher::perform_tree(supervision::effects todo) {
  for (auto& one : todo) {
    std::visit(overload{[&](const supervision::start_child& e) {
                          note_restart(e.id);
                          after_between(10, 500, [this, e] { bring_up(e.id, e.incarnation); });
                        },
                        [&](const supervision::stop_child& e) {
                          world_.met("supervisor.stop");
                          after_between(10, 500, [this, e] {
                            const auto incarnation = incarnations_[e.id];
                            take_down(e.id);
                            perform_tree(tree_->on_exit(now(), e.id, incarnation,
                                                        {supervision::exit_kind::shutdown, ""}));
                          });
                        },
                        [&](const supervision::wake& e) {
                          after(std::max(time_point::duration{0}, e.at - now()),
                                [this] { perform_tree(tree_->on_tick(now())); });
                        },
                        [&](const supervision::end&) {
                          world_.met("supervisor.gave_up");
                          crash(milliseconds{500});
                        },
                        [](const auto&) {}},
               one);
    if (!is_alive_) return;
  }
}

void sim_dispatcher::bring_up(const std::string& child, std::uint64_t incarnation) {
  if (child == "dispatcher") return recover(incarnation);
  if (child == "journal") {
    group_ = {};
    writers_.clear();
  } else {
    is_listening_ = true;
  }
  incarnations_[child] = incarnation;
  up_since_[child] = now();
  perform_tree(tree_->on_started(now(), child, incarnation, {}));
}

/// The dispatcher starts from the disk once all that was given to the journal is decided.
void sim_dispatcher::recover(std::uint64_t incarnation) {
  if (!group_.is_idle() && !mutated(mutation::recovery_does_not_wait))
    return after_between(100, 1000, [this, incarnation] { recover(incarnation); });
  const auto* known = tree_->find("dispatcher");
  if (known->incarnation != incarnation || known->state != supervision::child_state::starting)
    return;
  askers_.clear();
  ++queue_life_;
  queue_.emplace(options_, disk_.highest_token(), world_.random.next());
  fact f;
  f.kind = fact_kind::recovered;
  f.runs = disk_.open_runs();
  world_.note(f);
  perform(queue_->on_recovered(now(), f.runs));
  incarnations_["dispatcher"] = incarnation;
  up_since_["dispatcher"] = now();
  perform_tree(tree_->on_started(now(), "dispatcher", incarnation, {}));
}

void sim_dispatcher::take_down(const std::string& child) {
  incarnations_.erase(child);
  if (child == "rpc_server") {
    is_listening_ = false;
    net_.cut_everything();
    sessions_.clear();
  } else if (child == "dispatcher") {
    queue_.reset();
    askers_.clear();
    ++queue_life_;
  } else {
    ++journal_life_;
    note_durable(disk_.crash(world_.random.below(2) == 0));
    has_unsynced_ = false;
  }
}

void sim_dispatcher::kill_actor(unsigned which) {
  if (!is_alive_) return;
  const auto all = children();
  const auto& child = all[which % all.size()].id;
  const auto at = incarnations_.find(child);
  if (at == incarnations_.end()) return;
  world_.met("supervisor.kill_" + child);
  const auto incarnation = at->second;
  const bool is_alone = incarnations_.size() == all.size();
  take_down(child);
  lone_death_.reset();
  if (is_alone) lone_death_ = death{child, now(), up_since_[child]};
  perform_tree(tree_->on_exit(now(), child, incarnation,
                              {supervision::exit_kind::failed, "std::runtime_error: as told"}));
}

void sim_dispatcher::note_restart(const std::string& child) {
  if (!lone_death_ || lone_death_->child != child) return;
  const auto ms = [](time_point::duration d) {
    return static_cast<std::uint64_t>(std::chrono::duration_cast<milliseconds>(d).count());
  };
  fact f;
  f.kind = fact_kind::child_restarted;
  f.who = "dispatcher";
  f.text = child;
  const bool was_stable = lone_death_->at - lone_death_->up_since >= backoff.stable_for;
  const auto most = was_stable ? backoff.min : backoff.max;
  f.n = {ms(now() - lone_death_->at), ms(most)};
  world_.met(was_stable ? "supervisor.restart_after_stable" : "supervisor.restart_backed_off");
  lone_death_.reset();
  world_.note(std::move(f));
}

void sim_dispatcher::crash(milliseconds wait) {
  if (!is_alive_) return;
  is_alive_ = is_listening_ = false;
  ++life_;
  queue_.reset();
  net_.cut_everything();
  sessions_.clear();
  group_ = {};
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

void sim_dispatcher::note_durable(const std::vector<journal::operation>& ops) {
  for (const auto& op : ops) {
    fact f;
    f.kind = fact_kind::committed;
    f.op = op;
    world_.note(std::move(f));
  }
}

void sim_dispatcher::note_expiry(const journal::batch& ops) {
  for (const auto& op : ops) {
    const auto* ended = std::get_if<journal::end_attempt>(&op);
    if (!ended || !ended->reason.starts_with("the lease expired")) continue;
    fact f;
    f.kind = fact_kind::lease_expired;
    f.token = ended->token;
    world_.note(std::move(f));
  }
}

void sim_dispatcher::perform(effects todo) {
  for (auto& one : todo) {
    std::visit(
        overload{
            [&](commit& e) {
              note_expiry(e.ops);
              writers_[next_write_] = {queue_life_, e.tag};
              perform_journal(group_.on_write(next_write_++, std::move(e.ops)));
            },
            [&](const dispatcher::answer& e) { answer(e); },
            [&](offer& e) {
              world_.met("queue.offer");
              if (const auto at = sessions_.find(e.session); at != sessions_.end())
                net_.send(at->second, false, {message::kind::notify, 0, "offer", e.run, {}, {}});
            },
            [&](const abort_attempt& e) {
              world_.met("queue.abort");
              if (const auto at = sessions_.find(e.session); at != sessions_.end())
                net_.send(at->second, false,
                          {message::kind::notify, 0, "abort", {{"token", e.token}}, {}, {}});
            },
            [&](const wake& e) {
              after(std::max(time_point::duration{0}, e.at - now()), [this, life = queue_life_] {
                if (queue_ && life == queue_life_) perform(queue_->on_tick(now()));
              });
            },
            [](const changed&) {}},
        one);
  }
}

void sim_dispatcher::perform_journal(journal::group_effects todo) {
  for (auto& one : todo) {
    std::visit(overload{[&](const journal::flush_soon&) {
                          after_between(0, 200, [this, life = journal_life_] {
                            if (life == journal_life_) perform_journal(group_.on_flush());
                          });
                        },
                        [&](journal::write_batches& e) { write(std::move(e.batches)); },
                        [&](const journal::tell_writer& e) {
                          const auto [life, tag] = writers_.at(e.tag);
                          writers_.erase(e.tag);
                          if (queue_ && life == queue_life_)
                            perform(queue_->on_committed(now(), tag, e.outcome));
                        }},
               one);
  }
}

/// Two moments: the write, and the sync that makes it count. A crash may come between them.
void sim_dispatcher::write(std::vector<journal::batch> batches) {
  const std::uint64_t slow = now() < slow_until_ ? 400'000 : 0;
  after_between(20, 500 + slow, [this, slow, life = journal_life_, batches = std::move(batches)] {
    if (life != journal_life_) return;
    if (now() < full_until_) {
      world_.met("disk.refused_full");
      return synced(fail(ec::journal_full, "no room on the journal's disk"));
    }
    const auto done = disk_.write(batches);
    has_unsynced_ = true;
    after_between(100, 3000 + slow, [this, done, life] {
      if (life != journal_life_) return;
      has_unsynced_ = false;
      if (now() < failing_until_) {
        world_.met("disk.sync_failed");
        disk_.roll_back();
        return synced(fail(ec::journal_failed, "fsync failed"));
      }
      note_durable(disk_.sync());
      synced(done);
    });
  });
}

void sim_dispatcher::synced(const result<std::vector<journal::committed>>& done) {
  perform_journal(group_.on_written(done));
}

void sim_dispatcher::push(const push_request& p, on_answer then) {
  if (!queue_) return;
  char id[16];
  std::snprintf(id, sizeof id, "run%05llu", static_cast<unsigned long long>(next_run_++));
  const auto request = remember({nullptr, 0, "push", std::move(then)});
  const auto ms = std::chrono::duration_cast<milliseconds>(now().time_since_epoch());
  perform(queue_->on_push(now(), request, p, id, ms.count() + wall_offset_ms_));
}

void sim_dispatcher::cancel(const std::string& run, on_answer then) {
  if (queue_)
    perform(queue_->on_cancel(now(), remember({nullptr, 0, "cancel", std::move(then)}), run));
}

void sim_dispatcher::requeue(const std::string& run, on_answer then) {
  const auto row = disk_.find(run);
  if (queue_ && row)
    perform(queue_->on_requeue(now(), remember({nullptr, 0, "requeue", std::move(then)}), *row));
}

void sim_dispatcher::answer(const dispatcher::answer& e) {
  const auto at = askers_.find(e.request);
  if (at == askers_.end()) return;
  const auto a = std::move(at->second);
  askers_.erase(at);
  world_.met(a.method + (e.value ? ".ok" : "." + std::string{to_string(e.value.error().code)}));
  if (a.method == "finish" && !e.value && e.value.error().code == ec::gap) {
    fact f;
    f.kind = fact_kind::verdict_early;
    f.who = "runner" + std::to_string(a.from->runner);
    world_.note(std::move(f));
  }
  if (a.client) return a.client(e.value);
  if (sessions_.count(a.from->session) != 0)
    net_.send(a.from, false, {message::kind::reply, a.id, "", nullptr, {}, e.value});
}

void sim_dispatcher::on_message(const std::shared_ptr<stream>& s, const message& m) {
  if (!queue_ || !is_listening_) return;
  const auto at = now();
  if (m.method == "hello") sessions_[s->session] = s;
  if (sessions_.count(s->session) == 0) return;
  const auto request = remember({s, m.id, m.method, {}});
  const auto note_alive = [&](std::uint64_t token) {
    fact f;
    f.kind = fact_kind::renewed;
    f.token = token;
    world_.note(std::move(f));
  };
  if (m.method == "hello") return perform(queue_->on_hello(at, s->session, request, m.args));
  if (m.method == "accept") return perform(queue_->on_accept(at, s->session, request, m.args));
  if (m.method == "refuse") return perform(queue_->on_refuse(at, s->session, request, m.args));
  if (m.method == "started") {
    note_alive(m.args.value("token", std::uint64_t{0}));
    return perform(queue_->on_started(at, request, m.args));
  }
  if (m.method == "heartbeat") {
    for (const auto& a : m.args["attempts"]) note_alive(a["token"].get<std::uint64_t>());
    return perform(queue_->on_heartbeat(at, s->session, request, m.args));
  }
  if (m.method == "append") return perform(queue_->on_append(at, request, m.args, m.data));
  perform(queue_->on_finish(at, request, m.args));
}

void sim_dispatcher::on_stream_end(const std::shared_ptr<stream>& s) {
  if (sessions_.erase(s->session) != 0 && queue_)
    perform(queue_->on_session_gone(now(), s->session));
}

}  // namespace ntrace::sim
