#pragma once
// Blocking work for an actor that lives on CAF's shared workers: done on a thread of its own, the
// answer delivered as a message.
#include <caf/event_based_actor.hpp>
#include <functional>

#include "supervision/caf_types.hpp"

namespace ntrace::supervision {

using go_atom = caf::atom_constant<caf::atom("go")>;

/// The answer of blocking work, as a message that never leaves the process.
template <class T>
struct blocking_answer {
  result<T> value;
};

/// Runs `work` on a new thread and `then` in `self`'s context afterwards. When the work throws,
/// `then` gets ec::child_failed with the text. One thread per call: the caller bounds their number.
template <class T, class Self, class Work, class Then>
void run_blocking(Self* self, const char* name, Work work, Then then) {
  auto worker = self->template spawn<caf::detached>(
      [name, work](caf::event_based_actor* me) -> caf::behavior {
        guard(me, name);
        return {[me, work](go_atom) {
          me->quit();
          return blocking_answer<T>{work()};
        }};
      });
  self->request(worker, caf::infinite, go_atom::value)
      .then([then](const blocking_answer<T>& answer) { then(answer.value); },
            [then](const caf::error& e) { then(result<T>{fail(from_caf(e))}); });
}

}  // namespace ntrace::supervision

namespace caf {
template <class T>
struct allowed_unsafe_message_type<ntrace::supervision::blocking_answer<T>> : std::true_type {};
}  // namespace caf
