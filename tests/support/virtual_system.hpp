#pragma once
// An actor system whose clock moves only when the test says so, on the test's own thread.
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <caf/scoped_actor.hpp>

#include "config/clock.hpp"

namespace ntrace::test {

struct virtual_config : caf::actor_system_config {
  virtual_config() { set("scheduler.policy", caf::atom("testing")); }
};

class virtual_system {
public:
  virtual_system() : system{config_} {}
  caf::scheduler::test_coordinator& scheduler() {
    return static_cast<caf::scheduler::test_coordinator&>(system.scheduler());
  }
  /// Delivers what can be delivered now.
  void settle() { scheduler().run(); }
  /// Lets `step` of virtual time pass, delivering before and after.
  void run_for(std::chrono::nanoseconds step) {
    settle();
    scheduler().advance_time(std::chrono::duration_cast<caf::timespan>(step));
    settle();
  }

private:
  virtual_config config_;

public:
  caf::actor_system system;
};

}  // namespace ntrace::test
