// Leases that expired and are given back.
#include "tests/support/queue_world.hpp"

using namespace ntrace;
using namespace ntrace::test;
using world = queue_world;

namespace {

/// A lease that expired while its attempt had passed, and a runner that says so.
struct expired_world : world {
  expired_world() {
    hello(1);
    push("R1");
    accept(1, 1);
    append(1, 1);
    pass(30s);
  }
  /// What the runner's next heartbeat is answered with: the stale tokens.
  json heartbeat_with(const char* verdict_word) {
    return (*heartbeat(
        1,
        json{{"free", 0},
             {"workers", 1},
             {"attempts", {{{"token", 1}, {"run", "R1"}, {"verdict", verdict_word}}}}}))["stale"];
  }
};

}  // namespace

TEST(queue_fsm, revives_an_attempt_that_expired_with_a_verdict_and_takes_its_results) {
  expired_world uut;
  EXPECT_EQ(uut.heartbeat_with("passed"), json::array());
  EXPECT_EQ((*uut.append(1, 1))["ack"], 1) << "it goes on where it was";
  EXPECT_TRUE(uut.append(1, 2));
  EXPECT_TRUE(uut.finish(1, "passed", 2));
  EXPECT_EQ(uut.state_written("R1"), "done");
  EXPECT_EQ(uut.offers.size(), 1u);
}

TEST(queue_fsm, does_not_revive_what_another_attempt_has_followed) {
  expired_world uut;
  uut.pass(10s);
  (void)uut.heartbeat(1, {{"free", 1}, {"workers", 1}});
  ASSERT_EQ(uut.offers.size(), 2u);
  ASSERT_TRUE(uut.accept(1, 2));
  EXPECT_EQ(uut.heartbeat_with("passed"), json::array({1}));
  EXPECT_EQ(test::code_of(uut.finish(1, "passed", 1)), ec::stale_lease);
}

TEST(queue_fsm, does_not_revive_an_attempt_without_a_verdict_of_its_own) {
  expired_world uut;
  EXPECT_EQ(uut.heartbeat_with("infrastructure"), json::array({1}));
  EXPECT_EQ(uut.heartbeat_with(""), json::array({1}));
}

TEST(queue_fsm, answers_neither_yes_nor_no_while_a_revival_is_being_written) {
  expired_world uut;
  uut.holds = true;
  EXPECT_EQ(uut.heartbeat_with("passed"), json::array());
  EXPECT_EQ(test::code_of(uut.append(1, 2)), ec::overloaded);
  const auto cancel = uut.next++;
  uut.perform(uut.fsm.on_cancel(uut.now, cancel, "R1"));
  uut.release();
  EXPECT_EQ(uut.state_written("R1"), "cancelled") << "the wish that came meanwhile is heard";
  EXPECT_TRUE(uut.answers.at(cancel));
}
