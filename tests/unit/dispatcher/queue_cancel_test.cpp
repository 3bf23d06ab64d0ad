// Cancelling a run at every stage, and while something about it is being written.
#include "tests/support/queue_world.hpp"

using namespace ntrace;
using namespace ntrace::test;
using world = queue_world;

TEST(queue_fsm, cancels_at_every_stage_after_the_commit) {
  world uut;
  uut.push("R1");
  EXPECT_EQ((*uut.call(&queue_fsm::on_cancel, uut.next, std::string{"R1"}))["state"], "cancelled");
  EXPECT_EQ(uut.state_written("R1"), "cancelled");
  uut.hello(1);
  uut.push("R2");
  uut.accept(1, 1);
  EXPECT_EQ((*uut.call(&queue_fsm::on_cancel, uut.next, std::string{"R2"}))["state"], "cancelled");
  EXPECT_EQ(uut.aborted, std::vector<std::uint64_t>{1});
  EXPECT_EQ(test::code_of(uut.finish(1, "passed")), ec::stale_lease);
  EXPECT_EQ(test::code_of(uut.call(&queue_fsm::on_cancel, uut.next, std::string{"R2"})),
            ec::invalid_state);
}

TEST(queue_fsm, acknowledges_a_second_cancel_only_with_the_first) {
  world uut;
  uut.push("R");
  uut.holds = true;
  EXPECT_EQ(test::code_of(uut.call(&queue_fsm::on_cancel, uut.next, std::string{"R"})),
            ec::timed_out);
  const auto second = uut.next;
  EXPECT_EQ(test::code_of(uut.call(&queue_fsm::on_cancel, uut.next, std::string{"R"})),
            ec::timed_out);
  uut.release();
  EXPECT_EQ((*uut.answers.at(second))["state"], "cancelled");
}

TEST(queue_fsm, tells_both_who_cancelled_when_the_wish_could_not_be_written) {
  world uut;
  uut.push("R");
  uut.holds = true;
  uut.call(&queue_fsm::on_cancel, uut.next, std::string{"R"});
  const auto second = uut.next;
  uut.call(&queue_fsm::on_cancel, uut.next, std::string{"R"});
  uut.journal_error = {ec::journal_full, "full", {}};
  uut.release();
  EXPECT_EQ(test::code_of(uut.answers.at(second)), ec::journal_full);
  uut.journal_error = {};
  EXPECT_TRUE(uut.call(&queue_fsm::on_cancel, uut.next, std::string{"R"}));
}

TEST(queue_fsm, says_of_a_cancel_that_came_during_the_last_commit_that_the_run_is_over) {
  world uut;
  uut.hello(1);
  uut.push("R");
  uut.accept(1, 1);
  uut.holds = true;
  uut.finish(1, "passed");
  const auto late = uut.next;
  uut.call(&queue_fsm::on_cancel, uut.next, std::string{"R"});
  uut.release();
  EXPECT_EQ(test::code_of(uut.answers.at(late)), ec::invalid_state);
  EXPECT_EQ(uut.state_written("R"), "done");
}

TEST(queue_fsm, leases_no_run_whose_cancel_is_being_written) {
  world uut;
  uut.hello(1);
  uut.push("R");
  uut.holds = true;
  uut.call(&queue_fsm::on_cancel, uut.next, std::string{"R"});
  EXPECT_EQ(test::code_of(uut.accept(1, 1)), ec::stale_lease);
  uut.release();
  EXPECT_EQ(uut.state_written("R"), "cancelled");
}

/// The cancel's write may fail, and then the lease is valid as before.
TEST(queue_fsm, refuses_no_chunk_for_good_while_the_end_of_its_attempt_is_being_written) {
  world uut;
  uut.hello(1);
  uut.push("R");
  uut.accept(1, 1);
  uut.holds = true;
  uut.call(&queue_fsm::on_cancel, uut.next, std::string{"R"});
  EXPECT_EQ(test::code_of(uut.append(1, 1)), ec::overloaded);
  EXPECT_EQ(test::code_of(uut.finish(1, "passed")), ec::overloaded);
  uut.journal_error = {ec::journal_full, "full", {}};
  uut.release();
  uut.journal_error = {};
  EXPECT_TRUE(uut.append(1, 1));
  uut.holds = true;
  uut.call(&queue_fsm::on_cancel, uut.next, std::string{"R"});
  uut.release();
  EXPECT_EQ(test::code_of(uut.append(1, 2)), ec::stale_lease);
}

/// What is being written may fail, and then nobody has a lease whose end could be told.
TEST(queue_fsm, ends_no_lease_before_its_accept_is_written) {
  for (const bool fails : {false, true}) {
    world uut;
    uut.hello(1);
    uut.push("R", "", "o", 0, 5000ms);
    uut.holds = true;
    uut.accept(1, 1);
    ASSERT_EQ(uut.held.size(), 1u);
    const auto cancel = uut.next;
    uut.call(&queue_fsm::on_cancel, cancel, std::string{"R"});
    uut.pass(40s);  // Beyond its own deadline and that of the lease.
    EXPECT_EQ(uut.held.size(), 1u) << "nothing else is given to the journal";
    EXPECT_EQ(test::code_of(uut.finish(1, "passed")), ec::overloaded);
    if (fails) uut.journal_error = {ec::journal_full, "full", {}};
    const auto accept = std::exchange(uut.held, {});
    uut.holds = false;
    uut.settle(accept.front());
    EXPECT_EQ(uut.answers.count(cancel), 1u);
    uut.journal_error = {};
    uut.pass(1s);
    EXPECT_EQ(uut.state_written("R"), fails ? "failed" : "cancelled");
    EXPECT_EQ(std::count_if(
                  uut.written.begin(), uut.written.end(),
                  [](const auto& op) { return std::holds_alternative<journal::end_attempt>(op); }),
              fails ? 0 : 1);
  }
}

TEST(queue_fsm, ends_a_consumers_lease_only_once_that_is_written) {
  world uut;
  uut.push("R");
  uut.ask(7);
  uut.holds = true;
  uut.say("d1", "mine", "stdout", "x", "10.0.0.1", 7);
  const auto before = uut.held.size();
  uut.perform(uut.fsm.on_session_gone(uut.now, 7));
  EXPECT_EQ(uut.held.size(), before);
  uut.release();
  EXPECT_EQ(uut.state_written("R"), "queued") << "the connection is gone, and the lease with it";
}
