#pragma once
// The decisions of a supervisor: who is started, stopped and restarted, in which order, and when it
// gives up. Pure; the states of a child are drawn in README.md.
#include <deque>
#include <string>
#include <variant>
#include <vector>

#include "config/result.hpp"
#include "supervision/child_spec.hpp"
#include "supervision/restart_window.hpp"

namespace ntrace::supervision {

enum class child_state { starting, running, restarting, stopping, stopped };
std::string_view to_string(child_state s);

/// A child as it is now, for the tree and for `which_children`.
struct child_info {
  child_spec spec;
  child_state state = child_state::stopped;
  std::uint64_t incarnation = 0;  ///< Starts so far; inputs about an older one change nothing.
  std::uint64_t restarts = 0;
  time_point since{};       ///< When it came into `state`.
  std::string last_reason;  ///< Of its last end.
};

struct start_child {
  std::string id;
};  ///< Answer by on_started.
struct stop_child {
  std::string id;
  shutdown_policy how;
};  ///< Ask it to end; on_exit follows.
struct kill_child {
  std::string id;
};
struct wake {
  time_point at;
};                         ///< Call on_tick() then.
struct report_started {};  ///< All children are up.
struct drop_child {
  std::string id;
};  ///< Its spec is gone for good.
struct end {
  exit_reason reason;
};  ///< The supervisor is done; all are down.
using effects = std::vector<
    std::variant<start_child, stop_child, kill_child, wake, report_started, drop_child, end>>;

class supervisor_fsm {
public:
  explicit supervisor_fsm(supervisor_flags flags)
      : flags_{flags}, window_{flags.intensity, flags.period} {}

  /// Before on_start: children in their order. Later (simple_one_for_one, or at run time): starts
  /// it. ec::bad_argument for a duplicate id.
  result<effects> add_child(time_point now, child_spec spec);
  effects on_start(time_point now);
  /// A start that failed carries the reason.
  effects on_started(time_point now, const std::string& id, const result<void>& outcome);
  effects on_exit(time_point now, const std::string& id, std::uint64_t incarnation,
                  exit_reason reason);
  /// Stop all children in reverse order, then end with `reason`.
  effects on_stop(time_point now, exit_reason reason);
  effects on_tick(time_point now);

  const std::vector<child_info>& children() const { return children_; }
  unsigned budget_left(time_point now) { return window_.budget_left(now); }
  const supervisor_flags& flags() const { return flags_; }

private:
  child_info* find(const std::string& id);
  void advance(time_point now, effects& out);
  void plan_restart(time_point now, const std::string& id, effects& out);
  void give_up(time_point now, exit_reason reason, effects& out);
  void set(child_info& c, child_state s, time_point now);
  void forget(const std::string& id, effects& out);

  supervisor_flags flags_;
  restart_window window_;
  std::vector<child_info> children_;
  std::deque<std::string> to_stop_, to_start_;  ///< The plan under way: stops first, one by one.
  std::vector<std::string> died_meanwhile_;     ///< Ends that wait for the plan to be through.
  std::string waiting_for_;                     ///< Whose stop the plan waits for.
  time_point kill_at_ = time_point::max();
  bool is_starting_ = true;
  bool is_ending_ = false;
  bool has_ended_ = false;
  exit_reason end_reason_;
};

}  // namespace ntrace::supervision
