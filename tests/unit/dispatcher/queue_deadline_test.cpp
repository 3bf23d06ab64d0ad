// Deadlines of runs, and the drain.
#include "tests/support/only.hpp"
#include "tests/support/queue_world.hpp"

using namespace ntrace;
using namespace ntrace::test;
using world = queue_world;

TEST(queue_fsm, ends_a_run_that_waited_past_its_deadline) {
  world uut;
  uut.push("R1", "", "o", 0, 5s);
  uut.pass(5s - 1ms);
  EXPECT_EQ(uut.fsm.open_runs(), 1u);
  uut.pass(1ms);
  EXPECT_EQ(uut.state_written("R1"), "failed");
  EXPECT_EQ(uut.fsm.open_runs(), 0u);
  uut.hello(1);
  EXPECT_TRUE(uut.offers.empty());
}

TEST(queue_fsm, ends_an_attempt_at_its_runs_deadline_and_tells_the_runner) {
  world uut;
  uut.hello(1);
  uut.push("R1", "", "o", 0, 5s);
  uut.accept(1, 1);
  uut.pass(5s);
  EXPECT_EQ(uut.aborted, std::vector<std::uint64_t>{1});
  EXPECT_EQ(uut.state_written("R1"), "failed");
  EXPECT_EQ(test::code_of(uut.finish(1, "passed")), ec::stale_lease);
}

TEST(queue_fsm, keeps_what_is_left_of_a_deadline_over_a_restart) {
  world uut;
  run_row row;
  row.id = "R1";
  row.created_ms = 1000;
  row.deadline_ms = 5000;
  uut.perform(uut.fsm.on_recovered(uut.now, 3000, {row}));
  uut.pass(3s - 1ms);
  EXPECT_EQ(uut.fsm.open_runs(), 1u);
  uut.pass(1ms);
  EXPECT_EQ(uut.state_written("R1"), "failed");
}

TEST(queue_fsm, asks_at_each_tick_for_all_that_is_due_later) {
  world uut;
  const auto next = [&](time_point now) {
    auto earliest = time_point::max();
    for (const auto& e : only<wake>(uut.fsm.on_tick(now))) earliest = std::min(earliest, e.at);
    return earliest;
  };
  uut.hello(1);
  uut.push("R1");
  uut.accept(1, 1);
  EXPECT_EQ(next(uut.now + 1s), uut.now + 30s) << "its lease's end";
  uut.push("R2", "", "o", 0, 10s);
  EXPECT_EQ(next(uut.now + 1s), uut.now + 10s) << "the other's deadline";
  uut.pass(10s);
  EXPECT_EQ(next(uut.now + 1s), uut.now + 20s) << "the lease's end again";
  uut.finish(1, "infrastructure");
  const auto retry = next(uut.now);
  EXPECT_GT(retry, uut.now);
  EXPECT_LE(retry, uut.now + 8s) << "its next attempt";
}

TEST(queue_fsm, tries_again_to_end_an_overdue_run_when_the_journal_refused) {
  world uut;
  uut.push("R1", "", "o", 0, 5s);
  uut.journal_error = {ec::journal_full, "full", {}};
  uut.pass(5s);
  EXPECT_EQ(uut.fsm.open_runs(), 1u);
  uut.journal_error = {};
  uut.pass(200ms);
  EXPECT_EQ(uut.state_written("R1"), "failed");
}

TEST(queue_fsm, drains_on_after_a_restart_and_says_yes_only_when_it_is_on_disk) {
  world uut;
  uut.holds = true;
  const auto request = uut.next++;
  uut.perform(uut.fsm.on_drain(uut.now, request, true));
  EXPECT_EQ(uut.answers.count(request), 0u);
  uut.journal_error = {ec::journal_full, "full", {}};
  uut.release();
  EXPECT_EQ(test::code_of(uut.answers.at(request)), ec::journal_full);
  uut.journal_error = {};
  EXPECT_TRUE(uut.answers.at(uut.push("R1"))) << "it does not drain";
  uut.fsm.on_drain_recovered(true);
  EXPECT_EQ(test::code_of(uut.answers.at(uut.push("R2"))), ec::draining);
}

TEST(queue_fsm, forgets_the_deadline_of_a_run_that_ended_and_is_asked_for_again) {
  world uut;
  uut.hello(1);
  uut.push("R1", "", "o", 0, 60s);
  uut.accept(1, 1);
  uut.finish(1, "passed");
  run_row row;
  row.id = "R1";
  row.state = run_state::done;
  row.deadline_ms = 60'000;
  uut.perform(uut.fsm.on_requeue(uut.now, uut.next++, row));
  uut.pass(60s);
  EXPECT_EQ(uut.fsm.open_runs(), 1u);
  const auto* told = std::get_if<journal::set_run>(&*(uut.written.end() - 2));
  ASSERT_NE(told, nullptr);
  EXPECT_TRUE(told->drops_deadline) << "nor does a restart find it again";
}
