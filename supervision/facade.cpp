#include "supervision/facade.hpp"

#include <caf/actor_ostream.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <deque>

#include "config/gauges.hpp"
#include "supervision/caf_types.hpp"

namespace ntrace::supervision {
namespace {

using point_atom = caf::atom_constant<caf::atom("fc_point")>;
using clear_atom = caf::atom_constant<caf::atom("fc_clear")>;
using end_atom = caf::atom_constant<caf::atom("fc_end")>;

struct facade_state {
  const char* name = "facade";
  caf::actor target;
  std::deque<std::pair<caf::response_promise, caf::message>> waiting;
};

caf::behavior facade(caf::stateful_actor<facade_state>* self,
                     int /* keeps CAF from binding null */) {
  guard(self, "facade");
  self->set_default_handler(
      [self](caf::scheduled_actor*, caf::message_view& view) -> caf::result<caf::message> {
        auto& state = self->state;
        auto promise = self->make_response_promise();
        if (state.target) {
          promise.delegate(state.target, view.move_content_to_message());
        } else if (state.waiting.size() < facade_queue_max) {
          state.waiting.emplace_back(promise, view.move_content_to_message());
        } else {
          ++gauges::value("facade_overloaded");
          promise.deliver(to_caf({ec::overloaded, "too many requests wait for a restart", {}}));
        }
        return caf::delegated<caf::message>{};
      });
  return {[self](point_atom, const caf::actor& target) {
            self->state.target = target;
            while (!self->state.waiting.empty()) {
              auto [promise, content] = std::move(self->state.waiting.front());
              self->state.waiting.pop_front();
              promise.delegate(target, std::move(content));
            }
          },
          [self](clear_atom) { self->state.target = nullptr; },
          [self](end_atom) {
            for (auto& [promise, content] : self->state.waiting)
              promise.deliver(to_caf(
                  {ec::no_such_child, "the actor behind this address is gone for good", {}}));
            self->state.waiting.clear();
            self->state.target = nullptr;
            self->quit();
          }};
}

}  // namespace

caf::actor spawn_facade(caf::actor_system& system) { return system.spawn(facade, 0); }
void point_facade(const caf::actor& f, const caf::actor& target) {
  caf::anon_send(f, point_atom::value, target);
}
void clear_facade(const caf::actor& f) { caf::anon_send(f, clear_atom::value); }
void end_facade(const caf::actor& f) { caf::anon_send(f, end_atom::value); }

}  // namespace ntrace::supervision
