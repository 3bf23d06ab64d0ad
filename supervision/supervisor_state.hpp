#pragma once
// What a supervisor's actor keeps beside its machine; for supervisor_*.cpp only.
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <deque>
#include <memory>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "supervision/caf_types.hpp"
#include "supervision/supervisor_actor.hpp"

namespace ntrace::supervision {

/// An actor that can stop waiting for an answer: CAF keeps the handler of a request until it is
/// answered, which a child that has ended never does.
class forgetting_actor : public caf::event_based_actor {
public:
  using caf::event_based_actor::event_based_actor;
  void forget_request(caf::message_id asked) { multiplexed_responses_.erase(asked); }
};

struct living_child {
  caf::actor address;
  std::uint64_t incarnation = 0;
  std::optional<caf::message_id> readiness{};  ///< The request that asks whether it is up.
};

struct supervisor_state {
  const char* name = "supervisor";
  std::string label;
  std::optional<supervisor_fsm> fsm;
  std::unordered_map<std::string, child> specs;
  std::unordered_set<std::string> added;  ///< Of them, those that do not come back with it.
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
  std::string last_words = "its supervisor was ended";  ///< Why its children's façades let go.

  supervisor_state() = default;
  supervisor_state(const supervisor_state&) = delete;
  supervisor_state& operator=(const supervisor_state&) = delete;
  /// Whatever ends a supervisor, a kill or a bug too: it takes its children along, its callers are
  /// answered, and nothing waits in a façade for what has ended.
  ~supervisor_state() {
    for (const auto& [id, one] : running)
      caf::anon_send_exit(one.address, caf::exit_reason::user_shutdown);
    const auto why = to_caf({ec::child_failed, last_words, {}});
    for (auto& promise : waiting) promise.deliver(why);
    for (auto& [call, promise] : calls) promise.deliver(why);
    if (!fronts) return;
    for (const auto& [id, spec] : specs) {
      if (added.count(id) != 0)
        fronts->end(id);
      else if (const auto front = fronts->find(id))
        clear_facade(front, last_words);
    }
  }
};
using supervisor_self = caf::stateful_actor<supervisor_state, forgetting_actor>*;
/// Handlers of which, count, spec, ref and tree.
caf::message_handler supervisor_queries(supervisor_self self);
/// Handler of act.
caf::message_handler supervisor_acts(supervisor_self self);

}  // namespace ntrace::supervision
