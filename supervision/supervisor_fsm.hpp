#pragma once
// The decisions of a supervisor: which child starts, stops and restarts, in which order, and when
// it gives up. Pure. One thing is done at a time, as in OTP: the next start waits for the last
// one's outcome, and calls wait for the restart under way. States of a child: README.md.
#include <deque>
#include <list>
#include <set>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "config/random.hpp"
#include "config/result.hpp"
#include "supervision/child_spec.hpp"
#include "supervision/restart_window.hpp"

namespace ntrace::supervision {

enum class child_state { starting, running, restarting, stopping, stopped };
std::string_view to_string(child_state s);

/// A child as it is now, for the tree and for which_children.
struct child_info {
  child_spec spec;
  child_state state = child_state::stopped;
  std::uint64_t incarnation = 0;  ///< Starts so far; inputs about an older one change nothing.
  std::uint64_t restarts = 0;     ///< Counted against the intensity, failed ones included.
  time_point since{};             ///< When it came into `state`.
  std::string last_reason;        ///< Of its last end or failed start; empty: it never ended.
  time_point last_exit_at{};
  unsigned backoff_step = 0;               ///< Restarts since it was last stable.
  std::optional<time_point> retry_at{};    ///< While it waits for its restart.
  time_point kill_at = time_point::max();  ///< While it starts or stops.
  bool is_hit = false;                     ///< A round of restarts is about to stop it.
  bool comes_back = false;                 ///< And will start it again.
};

/// Numbers of count_children.
struct child_counts {
  std::size_t specs = 0, active = 0, supervisors = 0, workers = 0;
  bool operator==(const child_counts&) const = default;
};

/// How a start went: running, ignored (the child wants no process), or failed.
struct start_outcome {
  bool ignored = false;
  error failed{};  ///< code none: it did not fail.
};

using call_id = std::uint64_t;  ///< A call that waits for its answer; chosen by the caller.

struct adopt_child {
  call_id call;
  std::string id;
};  ///< The child of that on_start_child call is in the list now, under this id.
struct start_child {
  std::string id;
  std::uint64_t incarnation;
};  ///< Answer by on_started.
struct stop_child {
  std::string id;
};  ///< Ask it to end; on_exit follows.
struct kill_child {
  std::string id;
};  ///< End it without asking; on_exit follows.
struct wake {
  time_point at;
};                         ///< Call on_tick() then; a late or further call does no harm.
struct report_started {};  ///< All children are up.
struct report_end {
  std::string id;
  exit_reason reason;
};  ///< It was being stopped and ended for a reason of its own.
struct drop_child {
  std::string id;
};  ///< Its spec is gone for good.
struct answer {
  call_id call;
  std::string child;
  result<void> outcome;
};  ///< Of a call about that child.
struct end {
  exit_reason reason;
};  ///< The supervisor is done; all are down.
using effects = std::vector<std::variant<adopt_child, start_child, stop_child, kill_child, wake,
                                         report_started, report_end, drop_child, answer, end>>;

class supervisor_fsm {
public:
  /// `of`: for simple_one_for_one, the template whose id is the stem of generated ids. `seed`: of
  /// the jitter.
  explicit supervisor_fsm(supervisor_flags flags, std::optional<child_spec> of = {},
                          std::uint64_t seed = 0)
      : flags_{flags},
        template_{std::move(of)},
        window_{flags.intensity, flags.period},
        random_{seed} {}

  /// Starts the children in this order. ec::bad_spec, and then nothing was started.
  result<effects> on_start(time_point now, const std::vector<child_spec>& children);
  effects on_started(time_point now, const std::string& id, std::uint64_t incarnation,
                     const start_outcome& outcome);
  effects on_exit(time_point now, const std::string& id, std::uint64_t incarnation,
                  const exit_reason& reason);
  /// The parent asks, or is gone: stop all children in reverse order, then end with `reason`.
  effects on_stop(time_point now, exit_reason reason);
  effects on_tick(time_point now);

  // Calls at run time, each with one `answer`. At most calls_max wait; then ec::overloaded.
  static constexpr std::size_t calls_max = 1024;
  /// Adds and starts a child. In a simple_one_for_one all but the id comes from the template, and
  /// an empty id is generated. ec::already_started, ec::already_present, ec::bad_spec; when the
  /// start fails, its error, and no spec is left.
  effects on_start_child(time_point now, call_id call, child_spec spec);
  /// Stops it and keeps its spec, unless it is temporary or dynamic; cancels a waiting restart.
  effects on_terminate_child(time_point now, call_id call, const std::string& id);
  /// Starts a stopped one: ec::child_running, ec::child_restarting, or the start's error.
  effects on_restart_child(time_point now, call_id call, const std::string& id);
  /// Forgets a stopped one: ec::child_running or ec::child_restarting.
  effects on_delete_child(time_point now, call_id call, const std::string& id);

  const std::list<child_info>& children() const { return children_; }
  const child_info* find(const std::string& id) const;
  child_counts count_children() const;
  unsigned budget_left(time_point now) { return window_.budget_left(now); }
  std::size_t restarts_in_window(time_point now) { return window_.size(now); }
  const supervisor_flags& flags() const { return flags_; }
  bool is_ending() const { return is_ending_; }
  /// Counted so far, failed ones included.
  std::uint64_t restarts() const { return restarts_; }

private:
  enum class verb { start, terminate, restart, remove };
  struct request {
    call_id id;
    verb what;
    child_spec spec;  ///< Only its id, but for `start`.
  };

  child_info* get(const std::string& id);
  bool is_dynamic() const { return flags_.how == strategy::simple_one_for_one; }
  bool is_busy() const;
  static bool is_alive(const child_info& c);
  static bool demands_restart(const child_info& c, const exit_reason& reason);
  void insert(time_point now, const child_spec& spec);
  void forget(const std::string& id, effects& out);
  void set(child_info& c, child_state s, time_point now);
  void set_retry(child_info& c, time_point at, effects& out);
  void cancel_retry(child_info& c);
  void ask_to_stop(child_info& c, time_point now, effects& out);
  void begin_start(child_info& c, time_point now, effects& out);
  void advance(time_point now, effects& out);
  void on_stopped(child_info& c, time_point now, const exit_reason& reason, effects& out);
  void on_own_end(child_info& c, time_point now, const exit_reason& reason, effects& out);
  void on_start_failed(child_info& c, time_point now, const error& why, effects& out);
  void check_significant(const child_spec& ended, time_point now, effects& out);
  [[nodiscard]] bool count_restart(child_info& c, time_point now, effects& out);
  void plan_restart(child_info& dead, time_point now, effects& out);
  void plan_round(child_info& dead, time_point now, milliseconds wait, effects& out);
  bool precedes(const std::string& a, const std::string& b) const;
  void note_end(child_info& c, time_point now, std::string reason);
  milliseconds next_wait(child_info& c);
  void give_up(time_point now, exit_reason reason, effects& out);
  effects enqueue(time_point now, request c);
  void begin_call(time_point now, request c, effects& out);
  void begin_start_child(time_point now, request c, effects& out);
  void begin_terminate(time_point now, request c, effects& out);
  void refuse(const request& c, ec code, const std::string& why, effects& out);
  void end_call(result<void> outcome, effects& out);

  supervisor_flags flags_;
  std::optional<child_spec> template_;
  restart_window window_;
  random_source random_;
  std::list<child_info> children_;  ///< In order of start.
  std::unordered_map<std::string, std::list<child_info>::iterator> by_id_;
  std::deque<std::string> stops_, starts_;  ///< The plan under way: stops first, one by one.
  std::deque<std::string> suspended_;  ///< Starts of a group that wait for the first one's retry.
  std::set<std::pair<time_point, std::string>> retries_;
  std::deque<std::string> deaths_;  ///< Ends that wait for the plan to be through.
  std::deque<request> calls_;
  std::optional<request> current_;   ///< The call that the plan belongs to.
  std::string stopping_, starting_;  ///< Whom the plan waits for.
  bool start_timed_out_ = false;
  std::size_t alive_ = 0;  ///< Children with a process.
  std::uint64_t next_number_ = 1, restarts_ = 0;
  bool is_starting_ = true, is_ending_ = false, has_ended_ = false;
  exit_reason end_reason_;
};

}  // namespace ntrace::supervision
