// What an operator does to a child, named by its path.
#include <fmt/core.h>
#include <functional>
#include <string>
#include <vector>

#include "config/log.hpp"
#include "supervision/caf_types.hpp"
#include "supervision/supervisor_state.hpp"

namespace ntrace::supervision {
namespace {

using self_ptr = supervisor_self;

/// One call of our own after the other: each is answered when it is carried out. `then` gets the
/// error, if there was one.
template <class Atom, class Then>
void call_self(self_ptr self, Atom what, const std::string& id, Then then) {
  self->request(caf::actor_cast<caf::actor>(self), caf::infinite, what, id)
      .then([then](const std::string&) { then(caf::error{}); },
            [then](const caf::error& e) { then(e); });
}

/// The children that restart with `id`, in the order of their starts: as if it had failed.
/// What depends on it would otherwise go on with what it knew of the one that is gone.
std::vector<std::string> restarted_with(const supervisor_state& s, const std::string& id) {
  const auto how = s.fsm->flags().how;
  std::vector<std::string> out;
  bool is_after = false;
  for (const auto& c : s.fsm->children()) {
    is_after = is_after || c.spec.id == id;
    const bool depends =
        (how == strategy::one_for_all || (how == strategy::rest_for_one && is_after)) &&
        c.state != child_state::stopped && c.spec.restart != restart_type::temporary;
    if (c.spec.id == id || depends) out.push_back(c.spec.id);
  }
  return out;
}

using answered = std::function<void(const caf::error&)>;

/// One that does not start keeps nobody else down; its error is the answer.
void start_all(self_ptr self, const std::vector<std::string>& ids, std::size_t next,
               const caf::error& first, const answered& done) {
  if (next == ids.size()) return done(first);
  call_self(self, restart_atom::value, ids[next],
            [=](const caf::error& e) { start_all(self, ids, next + 1, first ? first : e, done); });
}

/// The last started is the first to stop.
void stop_and_start(self_ptr self, const std::vector<std::string>& ids, std::size_t left,
                    const answered& done) {
  if (left == 0) return start_all(self, ids, 0, {}, done);
  call_self(self, terminate_atom::value, ids[left - 1], [=](const caf::error& e) {
    e ? start_all(self, ids, left, e, done) : stop_and_start(self, ids, left - 1, done);
  });
}

caf::result<std::string> act_on(self_ptr self, const std::string& verb, const std::string& id) {
  auto& s = self->state;
  const auto at = s.running.find(id);
  const bool is_alive = at != s.running.end();
  log::info("supervisor.act", {{"supervisor", s.label}, {"child", id}, {"verb", verb}});
  auto promise = self->make_response_promise<std::string>();
  const auto done = [promise, id](const caf::error& e) {
    auto kept = promise;
    e ? kept.deliver(e) : kept.deliver(id);
  };
  const auto refuse = [done](const error& why) { done(to_caf(why)); };
  const bool is_dynamic = s.fsm->flags().how == strategy::simple_one_for_one;
  if (!s.fsm->find(id)) {
    refuse({ec::not_found, fmt::format("no child \"{}\" of {}", id, s.label), {}});
  } else if (verb == "stop") {
    call_self(self, terminate_atom::value, id, done);
  } else if (verb == "start" && (is_alive || is_dynamic)) {
    call_self(self, restart_atom::value, id, done);
  } else if (verb == "start" || (verb == "restart" && !is_dynamic)) {
    const auto ids = restarted_with(s, id);
    stop_and_start(self, ids, ids.size(), done);
  } else if (!is_alive) {
    refuse({ec::not_found, fmt::format("no child \"{}\" of {} is running", id, s.label), {}});
  } else if (verb == "kill" || verb == "restart") {  // A terminated child is forgotten there.
    self->send_exit(at->second.address, caf::exit_reason::kill);
    done({});
  } else if (verb == "throw" || verb == "hang") {
    caf::anon_send(at->second.address, fault_atom::value, verb);
    done({});
  } else {
    refuse({ec::bad_argument, "no verb \"" + verb + "\"", {}});
  }
  return promise;
}

}  // namespace

caf::message_handler supervisor_acts(self_ptr self) {
  return {[self](act_atom, const std::string& verb,
                 const std::string& path) -> caf::result<std::string> {
    const auto slash = path.find('/');
    const auto id = path.substr(0, slash);
    if (slash == std::string::npos) return act_on(self, verb, id);
    const auto at = self->state.running.find(id);
    const auto* known = self->state.fsm->find(id);
    if (at == self->state.running.end() || known->spec.kind != child_kind::supervisor)
      return to_caf({ec::not_found, "no supervisor \"" + id + "\" is running", {}});
    auto promise = self->make_response_promise<std::string>();
    return promise.delegate(at->second.address, act_atom::value, verb, path.substr(slash + 1));
  }};
}

}  // namespace ntrace::supervision
