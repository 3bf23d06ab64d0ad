#pragma once
// A façade: an address that stays valid while the actor behind it is replaced. It keeps what its
// child has not answered and gives it to the next incarnation, so that callers see latency and no
// error (facade_fsm.hpp has the rules and bounds).
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <caf/local_actor.hpp>
#include <caf/message.hpp>

#include "supervision/facade_fsm.hpp"
#include "supervision/held_bytes.hpp"

namespace ntrace::supervision {

/// A new façade, down at first. It costs no mailbox and no scheduling: messages pass through in the
/// sender's thread.
caf::actor spawn_facade(caf::actor_system& system, facade_options options = {});

/// Points the façade at a new incarnation, to which what waits is sent in order.
void point_facade(const caf::actor& facade, const caf::actor& target);
/// The target ended; messages wait.
void clear_facade(const caf::actor& facade, const std::string& reason = "stopped");
/// Nothing will come any more: what waits is answered no_such_child, and the façade ends.
void end_facade(const caf::actor& facade);
/// Messages that it holds, unanswered ones included.
std::size_t held_by_facade(const caf::actor& facade);

/// For a child: the façade's id of the request being handled. It is the same when the request is
/// sent again to a later incarnation, so a child whose work is not idempotent can tell.
inline std::uint64_t request_id_of(caf::local_actor* self) {
  return self->current_message_id().request_id().integer_value();
}

/// Wraps a message so that a façade answers timed_out when no incarnation comes up by `deadline`:
/// `self->request(front, caf::infinite, within{deadline, caf::make_message(…)})`.
struct within {
  time_point deadline;
  caf::message content;
};

}  // namespace ntrace::supervision

NTRACE_LOCAL_MESSAGE(ntrace::supervision::within)
