// The pool, the attempt.
#include <gtest/gtest.h>

#include <set>

#include "actors/runner/attempt_fsm.hpp"
#include "actors/runner/zone_pool_fsm.hpp"
#include "config/limits.hpp"
#include "config/overload.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;
using namespace ntrace::runner;
using namespace std::chrono_literals;
using domain::verdict;
using nlohmann::json;
using test::code_of;

namespace {

/// Enrolled, proved, and free.
void add_free(zone_pool_fsm& uut, const std::string& id, time_point now = {}) {
  uut.on_enroll(now, id, 1);
  EXPECT_EQ(uut.on_tick(now), std::vector<std::string>{id});
  uut.on_proved(now, id, "");
}

}  // namespace

TEST(zone_pool_fsm, loses_no_worker_whatever_happens_to_them) {
  test::seeded s;
  zone_pool_fsm uut{{1000ms, 8000ms}, 1};
  time_point now{};
  std::vector<std::string> busy;
  std::set<std::string> trying;
  for (int step = 0; step < 5000; ++step) {
    const auto id = "z" + std::to_string(s.random.below(5));
    switch (s.random.below(6)) {
      case 0:
        uut.on_enroll(now, id, 1);
        break;
      case 1:
        // One whose proof is under way can be expelled and enrolled again; its answer is then old.
        if (uut.on_expel(id) && uut.find(id) == nullptr) trying.erase(id);
        break;
      case 2:
        if (const auto got = uut.on_acquire("r")) {
          ASSERT_EQ(trying.count(*got), 0u);
          busy.push_back(*got);
        }
        break;
      case 3:
        if (!busy.empty()) {
          uut.on_release(now, busy.back(), s.random.below(2) == 0);
          busy.pop_back();
        }
        break;
      case 4:
        for (const auto& due : uut.on_tick(now += milliseconds{s.random.below(5000)}))
          ASSERT_TRUE(trying.insert(due).second) << "two proofs of one zone";
        break;
      case 5:
        if (!trying.empty()) {
          uut.on_proved(now, *trying.begin(), s.random.below(2) == 0 ? "broken" : "");
          trying.erase(trying.begin());
        }
        break;
    }
    std::size_t counted = 0;
    for (const auto state : {zone_state::proving, zone_state::free, zone_state::busy,
                             zone_state::repairing, zone_state::parked})
      counted += uut.count(state);
    ASSERT_EQ(counted, uut.size());
    ASSERT_EQ(uut.count(zone_state::busy), busy.size());
    // Each that is idle and not free has somebody who brings it back.
    for (const auto& w : uut.list())
      ASSERT_TRUE(w.zone.state() == zone_state::free || w.zone.state() == zone_state::busy ||
                  w.zone.wake() || trying.count(w.uuid) != 0);
  }
}

TEST(zone_pool_fsm, repairs_a_broken_worker_instead_of_putting_it_away) {
  zone_pool_fsm uut{{1000ms, 1000ms}, 1};
  time_point now{};
  add_free(uut, "z");
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(uut.on_acquire("r"));
    uut.on_release(now, "z", true);
    EXPECT_FALSE(uut.on_acquire("r"));
    ASSERT_TRUE(uut.next_wake());
    EXPECT_EQ(uut.on_tick(now = *uut.next_wake()), std::vector<std::string>{"z"});
    EXPECT_FALSE(uut.on_acquire("r")) << "it is not proved yet";
    uut.on_proved(now, "z", "");
  }
  EXPECT_EQ(uut.find("z")->zone.breaks(), 10u);
  EXPECT_EQ(uut.free(), 1u);
}

TEST(zone_pool_fsm, proves_the_free_ones_when_one_broke_so_that_a_broken_machine_takes_no_runs) {
  zone_pool_fsm uut{{1000ms, 1000ms}, 1};
  for (const char* id : {"a", "b", "c"}) add_free(uut, id);
  ASSERT_EQ(uut.on_acquire("r1"), "a");
  ASSERT_EQ(uut.on_acquire("r2"), "b");
  uut.on_release({}, "a", true);
  EXPECT_FALSE(uut.on_acquire("r3")) << "c is under suspicion";
  EXPECT_EQ(uut.count(zone_state::proving), 1u);
  EXPECT_EQ(uut.on_tick({}), std::vector<std::string>{"c"});
  uut.on_proved({}, "c", "");
  EXPECT_EQ(uut.on_acquire("r3"), "c");
  EXPECT_EQ(uut.count(zone_state::busy), 2u) << "what runs goes on";
}

TEST(zone_pool_fsm, forgets_a_busy_worker_only_when_its_attempt_ended) {
  zone_pool_fsm uut{{1000ms, 1000ms}, 1};
  add_free(uut, "z");
  uut.on_acquire("r");
  EXPECT_TRUE(uut.on_expel("z"));
  EXPECT_EQ(uut.size(), 1u);
  uut.on_release({}, "z", false);
  EXPECT_EQ(uut.size(), 0u);
  EXPECT_EQ(code_of(uut.on_expel("z")), ec::not_enrolled);
}

TEST(zone_pool_fsm, tells_people_what_its_workers_wait_for) {
  zone_pool_fsm uut{{1000ms, 1000ms}, 1};
  for (const char* id : {"a", "b"}) add_free(uut, id);
  uut.on_enroll({}, "c", 1);
  EXPECT_EQ(uut.text({}), "3 enrolled, 1 proving");
  uut.on_acquire("r");
  EXPECT_EQ(uut.text({}), "3 enrolled, 1 busy, 1 proving");
  uut.on_release(time_point{10s}, "a", true);
  EXPECT_EQ(uut.text(time_point{22s}),
            "3 enrolled, 2 proving, 1 repairing for 12 s: an attempt broke it");
}

namespace {

/// Walks an attempt: each step's outcome comes from `plan`, by name; absent: it goes well.
struct walk {
  std::map<std::string, error> plan;
  std::string package = R"({"scripts":{"benchmark":"x"},"dependencies":{"a":"1"}})";
  bool proof_ok = true;
  std::uint64_t samples = 7;
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
          outcome.is_clean = proof_ok;
          outcome.receipt = domain::document{json{{"ok", proof_ok}}};
          outcome.package_json = package;
          if (p->what == step::fold) outcome.samples = samples;
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
  EXPECT_EQ(uut.end.how, verdict::passed);
  EXPECT_EQ(uut.end.receipt.durations.at(step::run), 10ms);
  EXPECT_EQ(*uut.end.receipt.clean, json({{"ok", true}}));
}

TEST(attempt_fsm, makes_the_flame_graph_also_when_the_script_fails) {
  for (const auto& [code, how] : {std::pair{ec::script_failed, verdict::script_failed},
                                  {ec::timed_out, verdict::timed_out},
                                  {ec::out_of_memory, verdict::script_failed},
                                  {ec::output_limit, verdict::script_failed},
                                  {ec::disk_full, verdict::script_failed}}) {
    walk uut;
    uut.plan["run"] = {code, "x", {}};
    uut.run();
    EXPECT_EQ(uut.story, "rollback profiler fetch unpack install run capture fold ");
    EXPECT_EQ(uut.end.how, how);
  }
}

TEST(attempt_fsm, keeps_the_scripts_result_when_the_sampler_breaks) {
  for (const char* step : {"profiler", "capture", "fold"}) {
    walk uut;
    uut.plan[step] = {ec::profile_failed, "perf is missing", {}};
    uut.run();
    EXPECT_EQ(uut.end.how, verdict::passed) << step;
    EXPECT_EQ(uut.end.receipt.profile_failed, "perf is missing");
  }
}

TEST(attempt_fsm, says_that_the_script_was_too_short_when_no_sample_was_taken) {
  walk seen, unseen;
  unseen.samples = 0;
  EXPECT_EQ(seen.run().end.receipt.profile_failed, std::nullopt);
  EXPECT_EQ(unseen.run().end.how, verdict::passed);
  EXPECT_NE(unseen.end.receipt.profile_failed.value_or("").find("no sample was taken"),
            std::string::npos);
}

TEST(attempt_fsm, runs_nothing_without_a_proof_of_clean) {
  walk uut;
  uut.proof_ok = false;
  uut.run();
  EXPECT_EQ(uut.story, "rollback ");
  EXPECT_EQ(uut.end.how, verdict::infrastructure);
  EXPECT_TRUE(uut.end.zone_is_broken);
}

TEST(attempt_fsm, tells_the_users_errors_from_infrastructure) {
  const auto how = [](const char* step, ec code) {
    walk uut;
    uut.plan[step] = {code, "x", {}};
    return uut.run().end.how;
  };
  EXPECT_EQ(how("rollback", ec::zone_failed), verdict::infrastructure);
  EXPECT_EQ(how("fetch", ec::source_failed), verdict::infrastructure);
  for (const char* step : {"fetch", "install"})
    EXPECT_EQ(how(step, ec::io), verdict::infrastructure) << "a shortage of this machine";
  EXPECT_EQ(how("unpack", ec::source_hostile), verdict::source_failed);
  for (const auto code :
       {ec::not_found, ec::forbidden, ec::bad_argument, ec::source_hostile, ec::source_limit})
    EXPECT_EQ(how("fetch", code), verdict::source_failed) << to_string(code);
  EXPECT_EQ(how("unpack", ec::zone_failed), verdict::infrastructure);
  EXPECT_EQ(how("install", ec::install_failed), verdict::script_failed);
  EXPECT_EQ(how("install", ec::timed_out), verdict::timed_out);
  for (const char* step : {"unpack", "install", "run", "fold"})
    EXPECT_EQ(how(step, ec::init_died), verdict::infrastructure) << step;
  for (const char* step : {"unpack", "install", "run", "fold"})
    EXPECT_EQ(how(step, ec::stale_lease), verdict::infrastructure)
        << "with its lease the zone went";
}

TEST(attempt_fsm, is_lost_to_what_cannot_be_reached_and_blames_nobody) {
  const outage away{"registry.example", outage_cause::no_resolver, "no resolver answers"};
  for (const char* step : {"fetch", "install"}) {
    walk uut;
    uut.plan[step] = to_error(away);
    uut.run();
    EXPECT_EQ(uut.end.how, verdict::infrastructure) << step;
    EXPECT_EQ(uut.end.lost_to, away) << step;
    EXPECT_FALSE(uut.end.zone_is_broken);
  }
  walk other;
  other.plan["fetch"] = {ec::not_found, "no such commit", {}};
  EXPECT_EQ(other.run().end.lost_to, std::nullopt);
}

TEST(attempt_fsm, says_which_script_is_missing) {
  walk uut;
  uut.package = R"({"scripts":{"start":"x"}})";
  uut.run();
  EXPECT_EQ(uut.end.how, verdict::script_failed);
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
  fine.is_clean = true;
  const auto effects = uut.on_done({}, step::rollback, fine);
  const auto* end = std::get_if<finish>(&effects.back());
  ASSERT_NE(end, nullptr);
  EXPECT_EQ(end->how, verdict::infrastructure);
  EXPECT_EQ(end->reason, "cancelled: the lease is stale");
}
