// The pool, the attempt.
#include <gtest/gtest.h>

#include "actors/runner/attempt_fsm.hpp"
#include "actors/runner/zone_pool_fsm.hpp"
#include "config/limits.hpp"
#include "config/overload.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;
using namespace ntrace::runner;
using namespace std::chrono_literals;
using nlohmann::json;
using test::code_of;

TEST(zone_pool_fsm, keeps_free_busy_and_repairing_in_balance) {
  test::seeded s;
  zone_pool_fsm uut{{1000ms, 8000ms}, 1};
  time_point now{};
  std::vector<std::string> busy;
  for (int step = 0; step < 5000; ++step) {
    const auto id = "z" + std::to_string(s.random.below(5));
    switch (s.random.below(5)) {
      case 0:
        uut.on_enroll(id, 1);
        break;
      case 1:
        (void)uut.on_expel(id).has_value();
        break;
      case 2:
        if (const auto got = uut.on_acquire("r")) busy.push_back(*got);
        break;
      case 3:
        if (!busy.empty()) {
          uut.on_release(now, busy.back(), s.random.below(2) == 0);
          busy.pop_back();
        }
        break;
      case 4:
        uut.on_tick(now += milliseconds{s.random.below(5000)});
        break;
    }
    std::size_t counted_busy = 0, others = 0;
    for (const auto& w : uut.list()) (w.state == worker_state::busy ? counted_busy : others) += 1;
    ASSERT_EQ(counted_busy, busy.size());
    ASSERT_EQ(counted_busy + others, uut.size());
  }
}

TEST(zone_pool_fsm, repairs_a_broken_worker_instead_of_putting_it_away) {
  zone_pool_fsm uut{{1000ms, 1000ms}, 1};
  time_point now{};
  uut.on_enroll("z", 1);
  EXPECT_FALSE(uut.on_enroll("z", 2));
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(uut.on_acquire("r"));
    uut.on_release(now, "z", true);
    EXPECT_FALSE(uut.on_acquire("r"));
    ASSERT_TRUE(uut.next_wake());
    uut.on_tick(now = *uut.next_wake());
  }
  EXPECT_EQ(uut.find("z")->restarts, 10u);
  EXPECT_EQ(uut.free(), 1u);
}

TEST(zone_pool_fsm, forgets_a_busy_worker_only_when_its_attempt_ended) {
  zone_pool_fsm uut{{1000ms, 1000ms}, 1};
  uut.on_enroll("z", 1);
  uut.on_acquire("r");
  EXPECT_TRUE(uut.on_expel("z"));
  EXPECT_EQ(uut.size(), 1u);
  uut.on_release({}, "z", false);
  EXPECT_EQ(uut.size(), 0u);
  EXPECT_EQ(code_of(uut.on_expel("z")), ec::not_enrolled);
}

namespace {

/// Walks an attempt: each step's outcome comes from `plan`, by name; absent: it goes well.
struct walk {
  std::map<std::string, error> plan;
  std::string package = R"({"scripts":{"benchmark":"x"},"dependencies":{"a":"1"}})";
  bool proof_ok = true;
  std::string story;
  finish end{};

  walk& run() {
    attempt_fsm fsm{"z"};
    time_point now{};
    attempt_effects todo = fsm.on_start(now);
    while (!todo.empty()) {
      attempt_effects next;
      for (auto& e : todo) {
        if (const auto* p = std::get_if<perform>(&e)) {
          const std::string name{to_string(p->what)};
          story += name + " ";
          step_outcome outcome;
          if (plan.count(name)) outcome.failed = plan[name];
          outcome.receipt = {{"ok", proof_ok}};
          outcome.package_json = package;
          now += 10ms;
          for (auto& more : fsm.on_done(now, p->what, outcome)) next.push_back(std::move(more));
        } else if (auto* f = std::get_if<finish>(&e)) {
          end = *f;
        }
      }
      todo = std::move(next);
    }
    EXPECT_TRUE(fsm.is_finished());
    return *this;
  }
};

}  // namespace

TEST(attempt_fsm, walks_all_steps_to_passed) {
  walk uut;
  uut.run();
  EXPECT_EQ(uut.story, "rollback profiler fetch unpack install run capture fold ");
  EXPECT_EQ(uut.end.verdict, "passed");
  EXPECT_EQ(uut.end.receipt["steps"]["run"], 10);
  EXPECT_TRUE(uut.end.receipt["clean"]["ok"].get<bool>());
}

TEST(attempt_fsm, makes_the_flame_graph_also_when_the_script_fails) {
  for (const auto& [code, verdict] : {std::pair{ec::script_failed, "script_failed"},
                                      {ec::timed_out, "timed_out"},
                                      {ec::out_of_memory, "script_failed"},
                                      {ec::output_limit, "script_failed"}}) {
    walk uut;
    uut.plan["run"] = {code, "x", {}};
    uut.run();
    EXPECT_EQ(uut.story, "rollback profiler fetch unpack install run capture fold ");
    EXPECT_EQ(uut.end.verdict, verdict);
  }
}

TEST(attempt_fsm, keeps_the_scripts_result_when_the_sampler_breaks) {
  for (const char* step : {"profiler", "capture", "fold"}) {
    walk uut;
    uut.plan[step] = {ec::profile_failed, "perf is missing", {}};
    uut.run();
    EXPECT_EQ(uut.end.verdict, "passed") << step;
    EXPECT_EQ(uut.end.receipt["profile_failed"], "perf is missing");
  }
}

TEST(attempt_fsm, runs_nothing_without_a_proof_of_clean) {
  walk uut;
  uut.proof_ok = false;
  uut.run();
  EXPECT_EQ(uut.story, "rollback ");
  EXPECT_EQ(uut.end.verdict, "infrastructure");
  EXPECT_TRUE(uut.end.zone_is_broken);
}

TEST(attempt_fsm, tells_the_users_errors_from_infrastructure) {
  const auto verdict = [](const char* step, ec code) {
    walk uut;
    uut.plan[step] = {code, "x", {}};
    return uut.run().end.verdict;
  };
  EXPECT_EQ(verdict("rollback", ec::zone_failed), "infrastructure");
  EXPECT_EQ(verdict("fetch", ec::source_failed), "infrastructure");
  EXPECT_EQ(verdict("fetch", ec::not_found), "script_failed");
  EXPECT_EQ(verdict("fetch", ec::source_hostile), "script_failed");
  EXPECT_EQ(verdict("unpack", ec::zone_failed), "infrastructure");
  EXPECT_EQ(verdict("install", ec::install_failed), "script_failed");
  EXPECT_EQ(verdict("install", ec::timed_out), "timed_out");
  for (const char* step : {"unpack", "install", "run", "fold"})
    EXPECT_EQ(verdict(step, ec::init_died), "infrastructure") << step;
}

TEST(attempt_fsm, says_which_script_is_missing) {
  walk uut;
  uut.package = R"({"scripts":{"start":"x"}})";
  uut.run();
  EXPECT_EQ(uut.end.verdict, "script_failed");
  EXPECT_NE(uut.end.reason.find("benchmark"), std::string::npos);
  walk none;
  none.package = "";
  EXPECT_NE(none.run().end.reason.find("package.json"), std::string::npos);
}

TEST(attempt_fsm, skips_install_when_there_is_nothing_to_install) {
  walk uut;
  uut.package = R"({"scripts":{"test":"x"}})";
  uut.run();
  EXPECT_EQ(uut.story, "rollback profiler fetch unpack run capture fold ");
}

TEST(attempt_fsm, ends_as_infrastructure_when_cancelled) {
  attempt_fsm uut{"z"};
  uut.on_start({});
  uut.on_cancel("the lease is stale");
  step_outcome fine;
  fine.receipt = {{"ok", true}};
  const auto effects = uut.on_done({}, step::rollback, fine);
  const auto* end = std::get_if<finish>(&effects.back());
  ASSERT_NE(end, nullptr);
  EXPECT_EQ(end->verdict, "infrastructure");
  EXPECT_EQ(end->reason, "cancelled: the lease is stale");
}
