#pragma once
// Actors of a simulated process: façades and supervisors that do what production's machines say,
// with mailboxes that keep their order and die with their actor.
#include <nlohmann/json.hpp>
#include <optional>

#include "supervision/facade_fsm.hpp"
#include "supervision/supervisor_fsm.hpp"
#include "tests/sim/world.hpp"

namespace ntrace::sim {

using reply = std::function<void(const result<nlohmann::json>&)>;

/// An address that stays while the actor behind it is replaced: facade_fsm and the letters.
class sim_facade {
public:
  sim_facade(process& p, world& w, supervision::facade_options options = {})
      : process_{p}, world_{w}, options_{options}, fsm_{options} {}

  /// The process starts again.
  void restart();
  void tell(std::function<void()> what) { take({std::move(what), {}, {}, {}}, false); }
  /// `what` is done by the incarnation, which calls its reply once.
  void ask(std::function<void(reply)> what, reply then) {
    take({{}, std::move(what), std::move(then), {}}, true);
  }
  void up();
  void down(const std::string& reason);
  /// Letters that have waited for longer than is sound.
  std::size_t overdue() const;

private:
  struct letter {
    std::function<void()> tell;
    std::function<void(reply)> ask;
    reply then;
    time_point since{};
  };
  void take(letter l, bool wants_answer);
  void perform(const supervision::facade_effects& todo);
  void deliver(std::uint64_t id);
  void answer(std::uint64_t id, const result<nlohmann::json>& value);

  process& process_;
  world& world_;
  supervision::facade_options options_;
  supervision::facade_fsm fsm_;
  std::map<std::uint64_t, letter> letters_;
  std::uint64_t next_id_ = 1, incarnation_ = 0;
  time_point to_child_{}, to_askers_{};
};

class sim_supervisor {
public:
  struct owner {
    std::function<void(const std::string& id)> bring_up;
    /// Calls `done` when the child is down.
    std::function<void(const std::string& id, const std::function<void()>& done)> take_down;
    std::function<sim_facade*(const std::string& id)> front;  ///< Null: the child has none.
    std::function<void()> gave_up;
  };
  sim_supervisor(process& p, world& w, std::string name, supervision::supervisor_flags flags,
                 std::optional<supervision::child_spec> of, owner o)
      : process_{p},
        world_{w},
        name_{std::move(name)},
        flags_{flags},
        template_{std::move(of)},
        owner_{std::move(o)} {}

  void start(const std::vector<supervision::child_spec>& children);
  /// The child's id, or why it was not started.
  void add(const std::string& id, const std::function<void(const result<std::string>&)>& then);
  void stop(const std::function<void()>& done);
  /// The process is gone, and all children with it.
  void forget();
  /// The child ended by itself; what it was is cleared by take_down.
  void die(const std::string& id, const supervision::exit_reason& reason);
  bool is_up(const std::string& id) const { return incarnations_.count(id) != 0; }
  /// Those that run, in the order of their ids.
  std::vector<std::string> running() const;

  /// Runs only while that incarnation of the child does.
  template <class F>
  auto only_for(const std::string& id, F f) {
    return [this, id, number = incarnation_of(id), f](auto&&... args) {
      if (number != 0 && incarnation_of(id) == number) f(std::forward<decltype(args)>(args)...);
    };
  }

private:
  std::uint64_t incarnation_of(const std::string& id) const {
    const auto at = incarnations_.find(id);
    return at == incarnations_.end() ? 0 : at->second;
  }
  void perform(supervision::effects todo);
  void bring_up(const supervision::start_child& e);
  void take_down(const std::string& id);
  std::function<void()> still(std::function<void()> what);
  void clear(const std::string& id, const std::string& reason);
  void note_restart(const std::string& id);
  void note_states();

  process& process_;
  world& world_;
  std::string name_;
  supervision::supervisor_flags flags_;
  std::optional<supervision::child_spec> template_;
  owner owner_;
  std::optional<supervision::supervisor_fsm> fsm_;
  std::map<std::string, std::uint64_t> incarnations_;  ///< Of the children that run.
  std::map<std::string, std::uint64_t> number_;        ///< The machine's, of each incarnation.
  std::map<supervision::call_id, std::function<void(const result<std::string>&)>> calls_;
  std::function<void()> stopped_;
  std::uint64_t next_call_ = 1, next_incarnation_ = 1, epoch_ = 0;
  struct death {
    std::string child;
    time_point at, awake_at, up_since;
  };
  std::optional<death> lone_death_;  ///< The one child that is down by itself.
  std::map<std::string, time_point> up_since_;
  std::map<std::string, supervision::child_state> states_;  ///< As last seen, for coverage.
};

}  // namespace ntrace::sim
