// What an operator does to a child, named by its path.
#include "config/log.hpp"
#include "supervision/caf_types.hpp"
#include "supervision/supervisor_state.hpp"

namespace ntrace::supervision {
namespace {

using self_ptr = supervisor_self;
using answer = caf::typed_response_promise<std::string>;

/// One call of our own after the other: each is answered when it is carried out.
template <class Atom, class Then>
void call_self(self_ptr self, Atom what, const std::string& id, answer promise, Then then) {
  self->request(caf::actor_cast<caf::actor>(self), caf::infinite, what, id)
      .then([then](const std::string&) { then(); },
            [promise](caf::error& e) mutable { promise.deliver(std::move(e)); });
}

caf::result<std::string> act_on(self_ptr self, const std::string& verb, const std::string& id) {
  auto& s = self->state;
  const auto at = s.running.find(id);
  const bool is_alive = at != s.running.end();
  log::info("supervisor.act", {{"supervisor", s.label}, {"child", id}, {"verb", verb}});
  auto promise = self->make_response_promise<std::string>();
  const auto done = [promise, id] {
    auto kept = promise;
    kept.deliver(id);
  };
  const bool is_dynamic = s.fsm->flags().how == strategy::simple_one_for_one;
  if (verb == "stop") {
    call_self(self, terminate_atom::value, id, promise, done);
  } else if (verb == "start") {
    call_self(self, restart_atom::value, id, promise, done);
  } else if (verb == "restart" && !is_dynamic) {
    const auto start = [self, id, promise, done] {
      call_self(self, restart_atom::value, id, promise, done);
    };
    call_self(self, terminate_atom::value, id, promise, start);
  } else if (!is_alive) {
    return to_caf({ec::not_found, "no child \"" + id + "\" of " + s.label + " is running", {}});
  } else if (verb == "kill" || verb == "restart") {  // Who is terminated there is forgotten.
    self->send_exit(at->second.address, caf::exit_reason::kill);
    done();
  } else if (verb == "throw" || verb == "hang") {
    caf::anon_send(at->second.address, fault_atom::value, verb);
    done();
  } else {
    return to_caf({ec::bad_argument, "no verb \"" + verb + "\"", {}});
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
