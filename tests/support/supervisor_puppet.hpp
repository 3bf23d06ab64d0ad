#pragma once
// Drives supervisor_fsm as its actor does, in virtual time, and keeps the story of its effects.
#include <algorithm>
#include <map>
#include <set>

#include "config/overload.hpp"
#include "supervision/supervisor_fsm.hpp"
#include "tests/support/ok.hpp"

namespace ntrace::test {

using namespace supervision;
using namespace std::chrono_literals;

inline const exit_reason crash{exit_kind::failed, "boom"};
inline const exit_reason normal{exit_kind::normal, ""};
inline const exit_reason shut_down{exit_kind::shutdown, "done"};

inline child_spec permanent(std::string id) { return {std::move(id), restart_type::permanent}; }
inline child_spec transient(std::string id) { return {std::move(id), restart_type::transient}; }
inline child_spec temporary(std::string id) { return {std::move(id), restart_type::temporary}; }
inline child_spec with_shutdown(child_spec s, shutdown_policy how) {
  s.shutdown = how;
  return s;
}
inline child_spec significant(child_spec s) {
  s.significant = true;
  return s;
}
inline supervisor_flags one_for_one(unsigned intensity = 3) {
  return {strategy::one_for_one, intensity, 5s};
}
inline supervisor_flags one_for_all(unsigned intensity = 3) {
  return {strategy::one_for_all, intensity, 5s};
}
inline supervisor_flags rest_for_one(unsigned intensity = 3) {
  return {strategy::rest_for_one, intensity, 5s};
}
inline supervisor_flags dynamic(unsigned intensity = 3) {
  return {strategy::simple_one_for_one, intensity, 5s};
}

struct puppet {
  supervisor_fsm fsm;
  time_point now = time_point{} + 1h;
  std::vector<std::string> story;
  std::set<std::string> failing, ignoring, hanging;  ///< How starts of these go.
  std::set<std::string> deaf;                        ///< Asked to stop, these do not.
  std::set<std::string> immortal;                    ///< Nor when killed, until the test says so.
  std::map<std::string, std::uint64_t> alive;        ///< Processes by id: incarnation.
  std::multiset<time_point> wakes;
  std::map<call_id, std::pair<std::string, result<void>>> answers;
  call_id next_call = 1;

  explicit puppet(supervisor_flags flags, std::optional<child_spec> of = {}) : fsm{flags, of, 7} {}
  puppet& start(const std::vector<child_spec>& children = {}) {
    perform(ok(fsm.on_start(now, children)));
    return *this;
  }

  /// One after the other, as the actor does: an effect's own consequences come after its siblings.
  void perform(const effects& more) {
    todo_.insert(todo_.end(), more.begin(), more.end());
    if (std::exchange(is_performing_, true)) return;
    while (!todo_.empty()) {
      const auto one = std::move(todo_.front());
      todo_.pop_front();
      std::visit([&](const auto& e) { did(e); }, one);
    }
    is_performing_ = false;
  }
  /// What happened since the last call, in order.
  std::string take() {
    std::string out;
    for (const auto& s : story) out += (out.empty() ? "" : ", ") + s;
    story.clear();
    return out;
  }
  /// The child's process ends by itself.
  puppet& die(const std::string& id, const exit_reason& why = crash) {
    const auto at = alive.find(id);
    if (at == alive.end()) return *this;
    const auto incarnation = at->second;
    alive.erase(at);
    perform(fsm.on_exit(now, id, incarnation, why));
    return *this;
  }
  /// Time passes to each wake in between.
  puppet& pass(milliseconds step) {
    const auto end = now + step;
    while (!wakes.empty() && *wakes.begin() <= end) {
      now = std::max(now, *wakes.begin());
      wakes.erase(wakes.begin());
      perform(fsm.on_tick(now));
    }
    now = end;
    return *this;
  }
  /// One wake only, where pass() goes on as long as there are wakes.
  puppet& tick() {
    perform(fsm.on_tick(now));
    return *this;
  }
  puppet& stop() {
    perform(fsm.on_stop(now, {exit_kind::shutdown, ""}));
    return *this;
  }
  call_id begin(effects (supervisor_fsm::*what)(time_point, call_id, const std::string&),
                const std::string& id) {
    const auto call = next_call++;
    perform((fsm.*what)(now, call, id));
    return call;
  }
  ec outcome(call_id call) const {
    const auto at = answers.find(call);
    if (at == answers.end()) return ec::defect;  // Not answered yet.
    return at->second.second ? ec::none : at->second.second.error().code;
  }
  ec terminate(const std::string& id) {
    return outcome(begin(&supervisor_fsm::on_terminate_child, id));
  }
  ec restart(const std::string& id) {
    return outcome(begin(&supervisor_fsm::on_restart_child, id));
  }
  ec remove(const std::string& id) { return outcome(begin(&supervisor_fsm::on_delete_child, id)); }
  ec add(child_spec spec) {
    const auto call = next_call++;
    perform(fsm.on_start_child(now, call, std::move(spec)));
    return outcome(call);
  }
  const child_info& info(const std::string& id) const {
    static const child_info none;
    const auto* c = fsm.find(id);
    return c ? *c : none;
  }
  child_state state(const std::string& id) const { return info(id).state; }
  std::uint64_t incarnation(const std::string& id) const { return info(id).incarnation; }
  /// count_children must agree with which_children, and both with the processes there are.
  bool counts_agree() const {
    std::size_t active = 0;
    for (const auto& c : fsm.children()) {
      const bool has_process = alive.count(c.spec.id) != 0;
      const bool says_so = c.state == child_state::running || c.state == child_state::starting ||
                           c.state == child_state::stopping;
      if (has_process && !says_so) return false;
      active += says_so;
    }
    const auto counts = fsm.count_children();
    return counts.active == active && counts.specs == fsm.children().size() &&
           counts.workers + counts.supervisors == counts.specs;
  }

private:
  std::deque<effects::value_type> todo_;
  bool is_performing_ = false;

  void did(const adopt_child&) {}
  void did(const start_child& e) {
    start_outcome out;
    if (failing.count(e.id) != 0) out.failed = {ec::child_failed, "no luck", {}};
    out.ignored = ignoring.count(e.id) != 0;
    story.push_back((out.failed.code != ec::none ? "fail "
                     : out.ignored               ? "ignore "
                                                 : "start ") +
                    e.id);
    if (out.failed.code == ec::none && !out.ignored) alive[e.id] = e.incarnation;
    if (hanging.count(e.id) == 0) perform(fsm.on_started(now, e.id, e.incarnation, out));
  }
  void did(const stop_child& e) {
    story.push_back("stop " + e.id);
    if (deaf.count(e.id) == 0) die(e.id, {exit_kind::shutdown, ""});
  }
  void did(const kill_child& e) {
    story.push_back("kill " + e.id);
    if (immortal.count(e.id) == 0) die(e.id, {exit_kind::killed, ""});
  }
  void did(const wake& e) { wakes.insert(e.at); }
  void did(const report_started&) { story.push_back("up"); }
  void did(const report_end& e) { story.push_back("report " + e.id + " " + to_string(e.reason)); }
  void did(const drop_child& e) { story.push_back("drop " + e.id); }
  void did(const answer& e) { answers.insert_or_assign(e.call, std::pair{e.child, e.outcome}); }
  void did(const end& e) {
    story.push_back(e.reason.kind == exit_kind::failed     ? "end failed: " + e.reason.text
                    : e.reason.kind == exit_kind::shutdown ? "end"
                                                           : "end " + to_string(e.reason));
  }
};

}  // namespace ntrace::test
