#include "supervision/supervisor_actor.hpp"

#include <caf/actor_system.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <map>

#include "config/log.hpp"
#include "config/overload.hpp"
#include "supervision/caf_types.hpp"
#include "supervision/tree.hpp"

namespace ntrace::supervision {
namespace {

using tick = caf::atom_constant<caf::atom("sv_tick")>;

struct live {
  caf::actor address;
  std::uint64_t incarnation = 0;
};

struct supervisor_state {
  const char* name = "supervisor";
  std::string label;
  std::optional<supervisor_fsm> fsm;
  std::map<std::string, child> specs;
  std::map<std::string, live> running;
  std::map<caf::actor_addr, std::string> ids;
  std::vector<caf::response_promise> waiting;
  bool is_up = false;
};
using self_ptr = caf::stateful_actor<supervisor_state>*;

void perform(self_ptr self, effects todo);

std::uint64_t incarnation_of(self_ptr self, const std::string& id) {
  for (const auto& c : self->state.fsm->children())
    if (c.spec.id == id) return c.incarnation;
  return 0;
}

void start_one(self_ptr self, const std::string& id) {
  auto& state = self->state;
  auto& spec = state.specs.at(id);
  result<caf::actor> started = fail(ec::child_failed, "threw");
  try {
    started = spec.start(self);
  } catch (const std::exception& e) {
    started = fail(ec::child_failed, std::string{"the start function threw: "} + e.what());
  }
  result<void> outcome{};
  if (started) {
    self->monitor(*started);
    state.running[id] = {*started, incarnation_of(self, id)};
    state.ids[started->address()] = id;
    if (spec.front) point_facade(spec.front, *started);
    log::debug("supervisor.child_started", {{"supervisor", state.label}, {"child", id}});
  } else {
    outcome = fail(started.error());
    log::warn("supervisor.child_start_failed",
              {{"supervisor", state.label}, {"child", id}, {"reason", to_string(started.error())}});
  }
  perform(self, state.fsm->on_started(now_of(self), id, outcome));
}

void finish(self_ptr self, const exit_reason& reason) {
  auto& state = self->state;
  for (auto& promise : state.waiting)
    promise.deliver(to_caf({ec::child_failed, reason.text.empty() ? "stopped" : reason.text, {}}));
  state.waiting.clear();
  // The façades stay: a restarted supervisor points them at new children.
  for (auto& [id, spec] : state.specs)
    if (spec.front) clear_facade(spec.front);
  if (reason.kind == exit_kind::failed)
    self->quit(to_caf({ec::child_failed, reason.text, {}}));
  else
    self->quit(caf::exit_reason::user_shutdown);
  if (!reason.text.empty())
    log::error("supervisor.gave_up", {{"supervisor", state.label}, {"reason", reason.text}});
}

void perform(self_ptr self, effects todo) {
  auto& state = self->state;
  for (auto& one : todo) {
    std::visit(
        overload{
            [&](const start_child& e) { start_one(self, e.id); },
            [&](const stop_child& e) {
              const auto& to = state.running[e.id].address;
              // A supervisor child stops its own children first; a worker ends by its exit handler.
              if (state.specs.at(e.id).spec.kind == child_kind::supervisor)
                self->send(to, stop_atom::value);
              else
                self->send_exit(to, caf::exit_reason::user_shutdown);
            },
            [&](const kill_child& e) {
              log::warn("supervisor.child_killed", {{"supervisor", state.label}, {"child", e.id}});
              self->send_exit(state.running[e.id].address, caf::exit_reason::kill);
            },
            [&](const wake& e) {
              self->delayed_send(self, std::max(time_point::duration{0}, e.at - now_of(self)),
                                 tick::value);
            },
            [&](const report_started&) {
              state.is_up = true;
              for (auto& promise : state.waiting) promise.deliver(caf::unit);
              state.waiting.clear();
            },
            [&](const drop_child& e) {
              if (const auto& front = state.specs.at(e.id).front) end_facade(front);
              state.specs.erase(e.id);
            },
            [&](const end& e) { finish(self, e.reason); }},
        one);
  }
}

void on_down(self_ptr self, const caf::down_msg& down) {
  auto& state = self->state;
  const auto at = state.ids.find(down.source);
  if (at == state.ids.end()) return;
  const auto id = at->second;
  state.ids.erase(at);
  const auto incarnation = state.running[id].incarnation;
  state.running.erase(id);
  if (const auto spec = state.specs.find(id); spec != state.specs.end() && spec->second.front)
    clear_facade(spec->second.front);
  const auto reason = exit_reason_of(down.reason);
  if (!reason.is_normal())
    log::warn("supervisor.child_ended",
              {{"supervisor", state.label}, {"child", id}, {"reason", reason.text}});
  perform(self, state.fsm->on_exit(now_of(self), id, incarnation, reason));
}

/// Trees of supervisor children are asked for one after the other and put in their places.
void collect_tree(self_ptr self, caf::response_promise promise, nlohmann::json tree,
                  std::size_t from) {
  auto& children = tree["children"];
  for (auto i = from; i < children.size(); ++i) {
    if (children[i]["type"] != "supervisor") continue;
    const auto at = self->state.running.find(children[i]["id"].get<std::string>());
    if (at == self->state.running.end()) continue;
    self->request(at->second.address, std::chrono::seconds{5}, tree_atom::value)
        .then(
            [=](const std::string& text) {
              auto next = tree;
              next["children"][i]["tree"] = nlohmann::json::parse(text, nullptr, false);
              collect_tree(self, promise, std::move(next), i + 1);
            },
            [=](const caf::error&) { collect_tree(self, promise, tree, i + 1); });
    return;
  }
  promise.deliver(tree.dump());
}

caf::result<bool> kill_by_path(self_ptr self, const std::string& path) {
  const auto slash = path.find('/');
  const auto at = self->state.running.find(path.substr(0, slash));
  if (at == self->state.running.end()) return false;
  if (slash != std::string::npos) {
    auto promise = self->make_response_promise<bool>();
    return promise.delegate(at->second.address, kill_atom::value, path.substr(slash + 1));
  }
  self->send_exit(at->second.address, caf::exit_reason::kill);
  return true;
}

caf::behavior supervisor(self_ptr self, const std::string& label, supervisor_flags flags,
                         const std::vector<child>& children) {
  guard(self, "supervisor");
  auto& state = self->state;
  state.label = label;
  state.fsm.emplace(flags);
  self->set_down_handler([self](const caf::down_msg& down) { on_down(self, down); });
  self->set_exit_handler([self](const caf::exit_msg&) {
    perform(self, self->state.fsm->on_stop(now_of(self), {exit_kind::shutdown, ""}));
  });
  for (const auto& c : children) {
    state.specs[c.spec.id] = c;
    if (auto added = state.fsm->add_child(now_of(self), c.spec); !added)
      self->quit(to_caf(added.error()));
  }
  perform(self, state.fsm->on_start(now_of(self)));
  return {[self](wait_atom) -> caf::result<caf::unit_t> {
            if (self->state.is_up) return caf::unit;
            auto promise = self->make_response_promise();
            self->state.waiting.push_back(promise);
            return caf::delegated<caf::unit_t>{};
          },
          [self](add_child_atom, const child& c) -> caf::result<caf::unit_t> {
            auto& s = self->state;
            const auto is_new = s.specs.emplace(c.spec.id, c).second;
            auto added = s.fsm->add_child(now_of(self), c.spec);
            if (!added) {
              if (is_new) s.specs.erase(c.spec.id);
              return to_caf(added.error());
            }
            perform(self, std::move(*added));
            return caf::unit;
          },
          [self](tree_atom) -> caf::result<std::string> {
            auto promise = self->make_response_promise();
            collect_tree(self, promise, describe(*self->state.fsm, now_of(self)), 0);
            return caf::delegated<std::string>{};
          },
          [self](kill_atom, const std::string& path) { return kill_by_path(self, path); },
          [self](stop_atom) {
            perform(self, self->state.fsm->on_stop(now_of(self), {exit_kind::shutdown, ""}));
          },
          [self](tick) { perform(self, self->state.fsm->on_tick(now_of(self))); }};
}

}  // namespace

caf::actor spawn_supervisor(caf::actor_system& system, const std::string& name,
                            supervisor_flags flags, std::vector<child> children) {
  return system.spawn(supervisor, name, flags, std::move(children));
}

start_function supervisor_start(std::string name, supervisor_flags flags,
                                std::vector<child> children) {
  return [name, flags, children](caf::local_actor* self) -> result<caf::actor> {
    return spawn_supervisor(self->system(), name, flags, children);
  };
}

}  // namespace ntrace::supervision
