#pragma once
// A runner's process: production's supervisor_fsm and façades over outbox, zones, runner, attempts,
// tunnel and link, and the pure machine of each.
#include <deque>

#include "actors/runner/attempt_fsm.hpp"
#include "actors/runner/outbox_fsm.hpp"
#include "actors/runner/runner_fsm.hpp"
#include "config/wake_timer.hpp"
#include "tests/sim/sim_link.hpp"
#include "tests/sim/sim_outbox_disk.hpp"
#include "tests/sim/sim_tunnel.hpp"

namespace ntrace::sim {

class sim_runner : public process {
public:
  /// `script_max`: how long scripts take at most.
  sim_runner(world& w, network& net, sim_sshd& sshd, unsigned index, unsigned workers,
             milliseconds script_max);

  void start();
  /// Dies now, and its zones with it; starts again after `wait`.
  void crash(milliseconds wait);
  /// The init of a busy zone dies.
  void kill_zone();
  /// The actor of an attempt throws: no verdict, the zone is left as it is.
  void kill_attempt();
  void drain_tunnel(milliseconds lasts) {
    if (is_alive_) tunnel_.drain(lasts);
  }
  /// What the outbox writes is refused meanwhile.
  void fill_disk(milliseconds lasts) {
    if (is_alive_) disk_full_until_ = world_.now() + lasts;
  }
  /// Another of its actors throws.
  void kill_actor(unsigned which);

  std::size_t outbox_entries() const { return outbox_ ? outbox_->size() : 1; }
  /// Letters and connections that nobody serves.
  std::size_t overdue() const;
  bool is_linked() const { return runner_ && runner_->is_up() && tunnel_.is_up(); }
  /// Of a runner that is down all workers count as busy.
  std::size_t busy() const {
    return runner_ ? runner_->pool().size() - runner_->pool().free() - repairing() : workers_;
  }
  /// Idle, and not available yet.
  std::size_t repairing() const {
    using zone::zone_state;
    const auto count = [this](zone_state s) { return runner_->pool().count(s); };
    return runner_ ? count(zone_state::proving) + count(zone_state::repairing) +
                         count(zone_state::parked)
                   : 0;
  }

private:
  struct attempt {
    runner::attempt_fsm fsm;
    std::string run, worker;
    std::uint64_t chunks = 0;
    std::map<runner::step, std::uint64_t> pending;  ///< Steps under way.
  };
  /// What a zone is asked: a step of an attempt, or its end.
  struct zone_job {
    std::uint64_t token = 0;
    std::optional<runner::step> what;
    std::shared_ptr<runner::step_outcome> outcome;
    reply answer;
  };
  struct sim_zone {
    std::deque<zone_job> jobs;  ///< The first is under way.
    std::uint64_t token = 0;    ///< Whose it is.
    std::uint64_t number = 0;   ///< Of the job under way.
    bool is_dead = false;       ///< Its lease was over.
  };
  sim_facade* front_of(const std::string& child);
  void bring_up(const std::string& child);
  void take_down(const std::string& child, const std::function<void()>& done);
  std::string name() const { return "runner" + std::to_string(index_); }
  fact about(fact_kind kind, std::uint64_t token, const std::string& worker) const;

  // The runner's actor.
  void bring_up_runner();
  void call(const std::string& method, nlohmann::json args, const reply& then);
  void serve(const std::string& method, const nlohmann::json& args, const reply& answer);
  void perform(const runner::runner_effects& todo);
  void begin(const runner::begin_attempt& e);
  void note_stale(std::uint64_t token);
  void stale(std::uint64_t token);
  void take_beat(const runner::send_heartbeat& e, const nlohmann::json& value);
  void prove(const std::string& worker);
  void end_proof(const std::string& worker, const std::string& problem);
  void note_workers();

  // The outbox's actor.
  void bring_up_outbox();
  void perform(const runner::outbox_effects& todo);
  void say(const runner::say& e);
  void take_answer(const runner::said_word& said, const nlohmann::json& value);
  void write(const runner::keep& e);

  // Attempts' actors.
  void bring_up_attempt(std::uint64_t token);
  void end_attempt(std::uint64_t token);
  void perform(std::uint64_t token, const runner::attempt_effects& todo);
  void finish_attempt(std::uint64_t token, const attempt& a, const runner::finish& e);
  void cancel(std::uint64_t token, const std::string& reason);
  runner::step_outcome outcome_of(const attempt& a, runner::step what);
  void do_step(std::uint64_t token, runner::step what);
  void end_step(std::uint64_t token, runner::step what, std::uint64_t number,
                const runner::step_outcome& outcome);

  // Zones' actors.
  void ask_zone(const std::string& worker, zone_job job, const reply& then);
  void begin_job(const std::string& worker);
  void end_job(const std::string& worker, std::uint64_t number);
  void break_job(const std::string& worker, const error& why);
  void hold_lease(std::uint64_t token, time_point until);
  void end_without_lease(std::uint64_t token);

  network& net_;
  unsigned index_, workers_;
  std::uint64_t script_us_max_;
  random_source random_;
  sim_supervisor tree_, zone_sup_, attempt_sup_;
  sim_facade to_outbox_, to_runner_, to_zone_sup_, to_attempt_sup_, to_link_;
  std::map<std::string, std::unique_ptr<sim_facade>> to_zones_;  ///< By child's id.

  std::optional<runner::runner_fsm> runner_;
  wake_timer timer_;
  std::map<std::uint64_t, std::string> early_cancels_;
  std::map<std::uint64_t, runner::begin_attempt> specs_;  ///< Of attempts that are being started.
  std::set<std::uint64_t> born_;
  std::vector<reply> asked_for_hello_;
  bool is_ready_ = false;
  std::vector<std::uint64_t> last_workers_;

  std::optional<runner::outbox_fsm> outbox_;
  sim_outbox_disk outbox_disk_;
  std::vector<runner::outbox_record> outbox_writing_;  ///< A crash keeps them or not.
  time_point disk_full_until_{};
  std::uint64_t outbox_life_ = 0;
  std::map<std::uint64_t, attempt> attempts_;
  std::map<std::string, sim_zone> zones_;       ///< By worker.
  std::map<std::uint64_t, time_point> leases_;  ///< As zones know their ends, by token.
  std::uint64_t next_number_ = 1;
  sim_tunnel tunnel_;
  sim_link link_;
};

}  // namespace ntrace::sim
