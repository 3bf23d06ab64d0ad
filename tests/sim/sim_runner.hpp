#pragma once
// A runner's process: production's runner_fsm, outbox_fsm and attempt_fsm, over simulated zones and
// a link that dials again and again.
#include <optional>

#include "actors/runner/attempt_fsm.hpp"
#include "actors/runner/outbox_fsm.hpp"
#include "actors/runner/runner_fsm.hpp"
#include "tests/sim/network.hpp"

namespace ntrace::sim {

class sim_runner : public process {
public:
  /// `script_max`: how long scripts take at most.
  sim_runner(world& w, network& net, unsigned index, unsigned workers, milliseconds script_max,
             std::function<bool()> dispatcher_listens)
      : process{w},
        net_{net},
        index_{index},
        workers_{workers},
        script_us_max_{static_cast<std::uint64_t>(script_max.count()) * 1000},
        listens_{std::move(dispatcher_listens)},
        random_{w.random.next()} {}

  void start();
  /// Dies now, and its zones with it; starts again after `wait`.
  void crash(milliseconds wait);
  /// The init of a busy zone dies.
  void kill_zone();
  /// The actor of an attempt throws: no verdict, the zone is left as it is.
  void kill_attempt();

  void on_message(const std::shared_ptr<stream>& s, const message& m);
  void on_stream_end(const std::shared_ptr<stream>& s);

  std::size_t outbox_entries() const { return outbox_.size(); }
  bool is_linked() const { return runner_ && runner_->is_up(); }
  /// Of a runner that is down all workers count as busy.
  std::size_t busy() const {
    return runner_ ? runner_->pool().size() - runner_->pool().free() - repairing() : workers_;
  }
  std::size_t repairing() const {
    return runner_ ? runner_->pool().count(runner::worker_state::repairing) : 0;
  }

private:
  struct attempt {
    runner::attempt_fsm fsm;
    std::string run, worker;
    std::uint64_t chunks = 0, steps = 0;
    std::optional<runner::step> at;  ///< The step that holds the zone.
    bool is_cancelled = false;
  };
  using on_reply = std::function<void(const result<nlohmann::json>&)>;

  std::string name() const { return "runner" + std::to_string(index_); }
  fact about(fact_kind kind, std::uint64_t token, const std::string& worker) const;
  void dial();
  void call(const std::string& method, nlohmann::json args, std::string data, on_reply then);
  void lose_link();
  void perform(const runner::runner_effects& todo);
  void perform(const runner::outbox_effects& todo);
  void perform(std::uint64_t token, const runner::attempt_effects& todo);
  void say(const runner::say& e);
  void begin(const runner::begin_attempt& e);
  void do_step(std::uint64_t token, runner::step what);
  runner::step_outcome outcome_of(const attempt& a, runner::step what);
  void end_step(std::uint64_t token, runner::step what, std::uint64_t number,
                const runner::step_outcome& outcome);
  void break_step(std::uint64_t token, const error& why);
  void note_stale(std::uint64_t token);
  void stale(std::uint64_t token);
  void end_zone(const std::string& worker);
  void note_workers();

  network& net_;
  unsigned index_, workers_;
  std::uint64_t script_us_max_;
  std::function<bool()> listens_;
  random_source random_;
  std::optional<runner::runner_fsm> runner_;
  runner::outbox_fsm outbox_;
  std::map<std::uint64_t, attempt> attempts_;
  std::map<std::string, std::uint64_t> zone_of_;  ///< Worker → token whose zone it is.
  std::shared_ptr<stream> link_;
  std::map<std::uint64_t, on_reply> calls_;
  std::uint64_t next_call_ = 1;
  unsigned dials_ = 0;
  std::vector<std::uint64_t> last_workers_;
};

}  // namespace ntrace::sim
