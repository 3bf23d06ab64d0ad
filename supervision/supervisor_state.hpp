#pragma once
// What a supervisor's actor keeps beside its machine; for supervisor_*.cpp only.
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <deque>
#include <memory>
#include <set>
#include <unordered_map>

#include "supervision/supervisor_actor.hpp"

namespace ntrace::supervision {

/// The façades that (ref) made; they end with the last holder.
struct facade_set {
  std::unordered_map<std::string, caf::actor> by_id;
  facade_set() = default;
  facade_set(const facade_set&) = delete;
  facade_set& operator=(const facade_set&) = delete;
  ~facade_set() {
    for (const auto& [id, front] : by_id) end_facade(front);
  }
};

struct living_child {
  caf::actor address;
  std::uint64_t incarnation = 0;
};

struct supervisor_state {
  const char* name = "supervisor";
  std::string label;
  std::optional<supervisor_fsm> fsm;
  std::unordered_map<std::string, child> specs;
  std::unordered_map<std::string, living_child> running;
  std::unordered_map<caf::actor_id, std::string> ids;
  std::shared_ptr<facade_set> fronts;
  std::vector<caf::response_promise> waiting;
  std::unordered_map<call_id, caf::response_promise> calls;
  std::unordered_map<call_id, child> adds;  ///< Of calls to add whose turn has not come.
  call_id next_call = 1;
  std::uint64_t restarts_counted = 0;    ///< In the gauge.
  std::deque<effects::value_type> todo;  ///< Performed one by one, so that no stack grows.
  std::set<time_point> wakes;
  bool is_performing = false, is_up = false;

  supervisor_state() = default;
  supervisor_state(const supervisor_state&) = delete;
  supervisor_state& operator=(const supervisor_state&) = delete;
  /// A supervisor that is killed, or has a bug, takes its children along.
  ~supervisor_state() {
    for (const auto& [id, one] : running)
      caf::anon_send_exit(one.address, caf::exit_reason::user_shutdown);
  }
};
using supervisor_self = caf::stateful_actor<supervisor_state>*;

/// The façade of a child: its spec's own, or the one that (ref) made; null when there is none.
caf::actor front_of(supervisor_self self, const std::string& id);
/// Handlers of which, count, spec, ref and tree.
caf::message_handler supervisor_queries(supervisor_self self);
/// Handler of act.
caf::message_handler supervisor_acts(supervisor_self self);

}  // namespace ntrace::supervision
