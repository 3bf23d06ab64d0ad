#pragma once
// What the files of the dispatcher's actor share.
#include <caf/stateful_actor.hpp>

#include <set>

#include "actors/dispatcher/dispatcher_actor.hpp"
#include "actors/domain/queries.hpp"
#include "config/wake_timer.hpp"

namespace ntrace::dispatcher {

using tick_atom = caf::atom_constant<caf::atom("tick")>;
using flush_atom = caf::atom_constant<caf::atom("flush")>;
/// There is something behind the gate.
using pushed_atom = caf::atom_constant<caf::atom("pushed")>;

struct watcher {
  std::uint64_t id = 0;
  caf::response_promise promise;
  domain::logs_query what;
  std::optional<std::uint64_t> outage_tries;  ///< That the asker knows of.
  time_point until;
  bool has_timer = false;  ///< For `until`.
};

struct dispatcher_state {
  const char* name = "dispatcher";
  dispatcher_parts parts;
  std::optional<queue_fsm> fsm;
  wake_timer timer;
  std::map<request_id, caf::response_promise> requests;
  std::multimap<std::string, watcher> watchers;
  std::vector<std::uint64_t> write_tags;  ///< Of what goes to the journal next, in one message.
  std::vector<journal::batch> writes;
  request_id next_request = 1;
  bool is_ready = false;                       ///< The machine knows all that the journal holds.
  bool takes_pushes = false;                   ///< Before that, when there is much to read.
  time_point began{};                          ///< To recover.
  std::vector<caf::response_promise> waiting;  ///< Who asked (wait) before recovery is through.
  std::vector<std::pair<caf::response_promise, rpc::call>>
      early;                     ///< Calls before recovery is through.
  std::set<peer_id> gone_early;  ///< Peers of such calls that closed their side since.
};
using dispatcher_self = caf::stateful_actor<dispatcher_state>*;

/// Keeps a call's promise under a number; settle() answers it.
request_id remember(dispatcher_self self, const caf::response_promise& promise);
void settle(dispatcher_self self, request_id request, result<nlohmann::json> value);
/// Looks again for all who wait for something new of that run.
void wake_watchers(dispatcher_self self, const std::string& run);

/// Carries out what the machine decided.
void perform(dispatcher_self self, effects todo);
/// Takes in what was pushed: first of all, since who speaks may speak of it.
void take_pushed(dispatcher_self self);
void serve(dispatcher_self self, const caf::response_promise& promise, const rpc::call& c);

/// Reads what the journal holds, and serves from then on; ends the actor when it cannot be read.
void recover(dispatcher_self self);
/// What needs no run that has not been read yet. All else waits until the whole queue is known: its
/// order decides who is served, and a run that is not found must not be there.
bool can_be_served(const dispatcher_state& state, const std::string& method);

}  // namespace ntrace::dispatcher
