#include "tests/sim/sim_actors.hpp"

#include <algorithm>

#include "config/overload.hpp"

namespace ntrace::sim {

using nlohmann::json;

namespace {

constexpr milliseconds overdue_after{
    18'000};  // longer than any script, shorter than the first look

}  // namespace

void sim_facade::restart() {
  fsm_ = supervision::facade_fsm{options_};
  letters_.clear();
  ++incarnation_;
}

std::size_t sim_facade::overdue() const {
  return static_cast<std::size_t>(std::count_if(
      letters_.begin(), letters_.end(),
      [this](const auto& l) { return process_.now() - l.second.since > overdue_after; }));
}

void sim_facade::take(letter l, bool wants_answer) {
  const auto id = next_id_++;
  l.since = process_.now();
  letters_.emplace(id, std::move(l));
  world_.met(fsm_.is_up() ? "facade.passed_on" : "facade.held");
  perform(fsm_.on_message(process_.now(), id, 8, wants_answer, {}));
}

void sim_facade::up() {
  ++incarnation_;
  if (fsm_.held() != 0) world_.met("facade.sent_again");
  perform(fsm_.on_up(process_.now()));
}

void sim_facade::down(const std::string& reason) {
  ++incarnation_;
  perform(fsm_.on_down(process_.now(), reason));
}

void sim_facade::deliver(std::uint64_t id) {
  const auto& l = letters_.at(id);
  const auto alive = [this, number = incarnation_](const std::function<void()>& what) {
    return [this, number, what] {
      if (incarnation_ == number) what();
    };
  };
  if (l.tell) {
    process_.in_order(to_child_, alive(l.tell));
    letters_.erase(id);
    return;
  }
  process_.in_order(to_child_, alive([this, id, ask = l.ask] {
                      ask([this, id](const result<json>& value) {
                        process_.in_order(to_askers_, [this, id, value] { answer(id, value); });
                      });
                    }));
}

void sim_facade::answer(std::uint64_t id, const result<json>& value) {
  if (!fsm_.on_answer(id)) return;
  const auto then = std::move(letters_.at(id).then);
  letters_.erase(id);
  then(value);
}

void sim_facade::perform(const supervision::facade_effects& todo) {
  for (const auto& one : todo) {
    std::visit(overload{[&](const supervision::forward& e) { deliver(e.id); },
                        [&](const supervision::deny& e) {
                          world_.met("facade.denied_" + std::string{to_string(e.code)});
                          const auto then = std::move(letters_.at(e.id).then);
                          letters_.erase(e.id);
                          if (then)
                            process_.in_order(to_askers_, [then, e] { then(fail(e.code, e.why)); });
                        },
                        [&](const supervision::look_again& e) {
                          process_.at(e.at, [this] { perform(fsm_.on_tick(process_.now())); });
                        }},
               one);
  }
}

void sim_supervisor::start(const std::vector<supervision::child_spec>& children) {
  forget();
  fsm_.emplace(flags_, template_, world_.random.next());
  perform(*fsm_->on_start(process_.now(), children));
}

void sim_supervisor::forget() {
  ++epoch_;
  incarnations_.clear();
  calls_.clear();
  lone_death_.reset();
  stopped_ = {};
  fsm_.reset();
}

void sim_supervisor::add(const std::string& id,
                         const std::function<void(const result<std::string>&)>& then) {
  if (!fsm_) return then(fail(ec::no_such_child, name_ + " is down"));
  supervision::child_spec spec;
  spec.id = id;
  calls_[next_call_] = then;
  perform(fsm_->on_start_child(process_.now(), next_call_++, spec));
}

void sim_supervisor::stop(const std::function<void()>& done) {
  if (!fsm_) return done();
  stopped_ = done;
  perform(fsm_->on_stop(process_.now(), {supervision::exit_kind::shutdown, ""}));
}

std::vector<std::string> sim_supervisor::running() const {
  std::vector<std::string> out;
  for (const auto& [id, n] : incarnations_) out.push_back(id);
  return out;
}

void sim_supervisor::clear(const std::string& id, const std::string& reason) {
  incarnations_.erase(id);
  if (auto* front = owner_.front(id)) front->down(reason);
}

void sim_supervisor::die(const std::string& id, const supervision::exit_reason& reason) {
  const auto at = incarnations_.find(id);
  if (at == incarnations_.end()) return;
  const auto number = number_[id];
  if (!reason.is_normal()) {
    world_.met(name_ + ".child_died");
    const bool is_alone = incarnations_.size() == fsm_->count_children().specs;
    lone_death_.reset();
    if (is_alone && !template_)
      lone_death_ = death{id, process_.now(), process_.awake(), up_since_[id]};
  }
  clear(id, reason.text);
  owner_.take_down(id, [] {});
  if (fsm_) perform(fsm_->on_exit(process_.now(), id, number, reason));
}

void sim_supervisor::note_restart(const std::string& id) {
  if (!lone_death_ || lone_death_->child != id) return;
  const auto ms = [](time_point::duration d) {
    return static_cast<std::uint64_t>(std::chrono::duration_cast<milliseconds>(d).count());
  };
  const auto& backoff = fsm_->find(id)->spec.backoff;
  fact f;
  f.kind = fact_kind::child_restarted;
  f.who = name_;
  f.text = id;
  const bool was_stable = lone_death_->at - lone_death_->up_since >= backoff.stable_for;
  const auto most = was_stable ? backoff.min : backoff.max;
  f.n = {ms(process_.awake() - lone_death_->awake_at), ms(most)};
  world_.met(name_ + (was_stable ? ".restart_after_stable" : ".restart_backed_off"));
  lone_death_.reset();
  world_.note(std::move(f));
}

std::function<void()> sim_supervisor::still(std::function<void()> what) {
  return [this, epoch = epoch_, what = std::move(what)] {
    if (epoch_ == epoch) what();
  };
}

void sim_supervisor::bring_up(const supervision::start_child& e) {
  const auto* known = fsm_->find(e.id);
  if (!known || known->incarnation != e.incarnation ||
      known->state != supervision::child_state::starting)
    return;
  incarnations_[e.id] = next_incarnation_++;
  number_[e.id] = e.incarnation;
  up_since_[e.id] = process_.now();
  owner_.bring_up(e.id);
  if (auto* front = owner_.front(e.id)) front->up();
  perform(fsm_->on_started(process_.now(), e.id, e.incarnation, {}));
}

void sim_supervisor::take_down(const std::string& id) {
  const auto* known = fsm_->find(id);
  if (!known || known->state != supervision::child_state::stopping) return;
  const auto ended = still([this, id, number = known->incarnation] {
    perform(fsm_->on_exit(process_.now(), id, number, {supervision::exit_kind::shutdown, ""}));
  });
  if (!is_up(id)) {  // It was being started: its starter is ended.
    world_.met(name_ + ".stop_while_starting");
    return ended();
  }
  clear(id, "it was stopped");
  owner_.take_down(id, ended);
}

void sim_supervisor::perform(supervision::effects todo) {
  const auto epoch = epoch_;
  const auto soon = [this](std::function<void()> what) {
    process_.after_between(10, 500, still(std::move(what)));
  };
  for (auto& one : todo) {
    std::visit(overload{[&](const supervision::start_child& e) {
                          note_restart(e.id);
                          soon([this, e] { bring_up(e); });
                        },
                        [&](const supervision::stop_child& e) {
                          world_.met(name_ + ".stop");
                          soon([this, id = e.id] { take_down(id); });
                        },
                        [&](const supervision::wake& e) {
                          process_.at(e.at,
                                      still([this] { perform(fsm_->on_tick(process_.now())); }));
                        },
                        [&](const supervision::answer& e) {
                          const auto call = calls_.extract(e.call);
                          if (!call) return;
                          call.mapped()(e.outcome ? result<std::string>{e.child}
                                                  : fail(e.outcome.error()));
                        },
                        [&](const supervision::end&) {
                          const auto done = std::exchange(stopped_, {});
                          forget();
                          if (done) return done();
                          world_.met(name_ + ".gave_up");
                          owner_.gave_up();
                        },
                        [](const auto&) {}},
               one);
    if (epoch_ != epoch) return;
  }
  note_states();
}

void sim_supervisor::note_states() {
  std::map<std::string, supervision::child_state> states;
  for (const auto& c : fsm_->children()) {
    states[c.spec.id] = c.state;
    const auto before = states_.find(c.spec.id);
    if (before != states_.end() && before->second != c.state)
      world_.met("child." + std::string{to_string(before->second)} + ">" +
                 std::string{to_string(c.state)});
  }
  states_ = std::move(states);
}

}  // namespace ntrace::sim
