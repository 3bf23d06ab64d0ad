// The queue's machine in virtual time.
#include "tests/support/queue_world.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;
using namespace ntrace::test;
using world = queue_world;

TEST(queue_fsm, offers_only_after_the_token_is_on_disk) {
  world uut;
  uut.push("R1");
  uut.holds = true;
  uut.hello(1);
  EXPECT_TRUE(uut.offers.empty());
  uut.release();
  ASSERT_EQ(uut.offers.size(), 1u);
  EXPECT_EQ(uut.offers[0]["token"], 1);
  EXPECT_EQ(uut.offers[0]["source"], "git+file:///m/o/r#" + sha);
}

TEST(queue_fsm, walks_a_run_from_push_to_done) {
  world uut;
  uut.hello(1);
  uut.push("R1");
  EXPECT_EQ((*uut.accept(1, 1))["lease_ms"], 30'000);
  EXPECT_TRUE(uut.started(1));
  EXPECT_EQ((*uut.append(1, 1))["ack"], 1);
  EXPECT_EQ((*uut.append(1, 2))["ack"], 2);
  EXPECT_EQ((*uut.finish(1, "passed", 2))["state"], "done");
  EXPECT_EQ(uut.state_written("R1"), "done");
  EXPECT_EQ(uut.fsm.open_runs(), 0u);
  EXPECT_EQ(test::code_of(uut.finish(1, "passed", 2)), ec::stale_lease);
}

TEST(queue_fsm, refuses_a_verdict_that_overtakes_its_chunks) {
  world uut;
  uut.hello(1);
  uut.push("R1");
  uut.accept(1, 1);
  uut.append(1, 1);
  EXPECT_EQ(test::code_of(uut.finish(1, "passed", 2)), ec::gap);
  EXPECT_EQ(test::code_of(uut.append(1, 3)), ec::gap);
  EXPECT_EQ((*uut.append(1, 1))["ack"], 1);
  EXPECT_TRUE(uut.append(1, 2));
  EXPECT_TRUE(uut.finish(1, "passed", 2));
}

TEST(queue_fsm, burns_an_offer_that_is_not_answered_in_time) {
  world uut;
  uut.hello(1);
  uut.push("R1");
  uut.pass(2s - 1ms);
  uut.hello(2);
  EXPECT_EQ(uut.offers.size(), 1u);
  uut.pass(1ms);
  ASSERT_EQ(uut.offers.size(), 2u);
  EXPECT_EQ(uut.offers[1]["token"], 2);
  EXPECT_EQ(test::code_of(uut.accept(1, 1)), ec::stale_lease);
  EXPECT_TRUE(uut.accept(2, 2));
}

TEST(queue_fsm, queues_again_with_a_higher_token_when_the_lease_expires) {
  world uut;
  uut.hello(1);
  uut.push("R1");
  uut.accept(1, 1);
  uut.pass(30s - 1ms);
  EXPECT_TRUE(uut.started(1)) << "a heartbeat or report just in time renews it";
  uut.pass(30s);
  EXPECT_EQ(uut.aborted, std::vector<std::uint64_t>{1});
  EXPECT_EQ(test::code_of(uut.append(1, 1)), ec::stale_lease);
  EXPECT_EQ(test::code_of(uut.finish(1, "passed")), ec::stale_lease);
  uut.pass(1s);
  (void)uut.heartbeat(1, {{"free", 1}, {"workers", 1}});
  ASSERT_EQ(uut.offers.size(), 2u);
  EXPECT_EQ(uut.offers[1]["token"], 2);
  EXPECT_EQ(uut.offers[1]["attempt"], 2);
}

TEST(queue_fsm, keeps_a_lease_alive_by_heartbeats_that_name_it) {
  world uut;
  uut.hello(1);
  uut.push("R1");
  uut.accept(1, 1);
  for (int i = 0; i < 10; ++i) {
    uut.pass(29s);
    const auto answer =
        uut.heartbeat(1, {{"attempts", {{{"token", 1}}, {{"token", 99}}}}, {"free", 0}});
    EXPECT_EQ((*answer)["stale"], json::array({99}));
  }
  EXPECT_TRUE(uut.finish(1, "passed"));
}

TEST(queue_fsm, retries_infrastructure_and_quarantines_after_the_last_attempt) {
  world uut;
  uut.hello(1);
  uut.push("R1");
  for (std::uint64_t token = 1; token <= 3; ++token) {
    ASSERT_EQ(uut.offers.size(), token);
    EXPECT_TRUE(uut.accept(1, token));
    uut.finish(token, "infrastructure");
    uut.pass(8s);
    (void)uut.heartbeat(1, {{"free", 1}});
  }
  EXPECT_EQ(uut.state_written("R1"), "quarantined");
  EXPECT_EQ(uut.offers.size(), 3u);
}

TEST(queue_fsm, never_retries_a_scripts_own_failure) {
  world uut;
  uut.hello(1);
  uut.push("R1");
  uut.accept(1, 1);
  EXPECT_EQ((*uut.finish(1, "script_failed"))["state"], "failed");
  uut.pass(1h);
  EXPECT_EQ(uut.offers.size(), 1u);
}

TEST(queue_fsm, gives_an_open_offer_back_at_once_when_the_runner_goes) {
  world uut;
  uut.hello(1);
  uut.push("R1");
  uut.hello(2);
  uut.perform(uut.fsm.on_session_gone(uut.now, 1));
  ASSERT_EQ(uut.offers.size(), 2u);
  EXPECT_TRUE(uut.accept(2, 2));
}

TEST(queue_fsm, takes_turns_between_repos_and_priorities_first) {
  world uut;
  uut.push("A1", "", "a");
  uut.push("A2", "", "a");
  uut.push("B1", "", "b");
  uut.push("C1", "", "c", 5);
  uut.hello(1, 4);
  std::string order;
  for (const auto& o : uut.offers) order += o["run"].get<std::string>() + " ";
  EXPECT_EQ(order, "C1 A1 B1 A2 ");
}

TEST(queue_fsm, gives_leases_one_whole_term_after_a_restart) {
  world uut;
  run_row row;
  row.id = "R1";
  row.state = run_state::running;
  row.attempts = 1;
  row.token = 7;
  row.last_seq = 4;
  uut.perform(uut.fsm.on_recovered(uut.now, 0, {row}));
  uut.pass(30s - 1ms);
  EXPECT_EQ(test::code_of(uut.append(7, 6)), ec::gap);
  EXPECT_EQ((*uut.append(7, 5))["ack"], 5);
  EXPECT_TRUE(uut.finish(7, "passed", 5));
}

TEST(queue_fsm, takes_no_work_while_draining_and_says_so) {
  world uut;
  uut.push("R1");
  uut.perform(uut.fsm.on_drain(uut.now, uut.next++, true));
  uut.hello(1);
  EXPECT_TRUE(uut.offers.empty());
  EXPECT_EQ(uut.answers.at(uut.push("R2")).error().code, ec::draining);
  EXPECT_NE(uut.fsm.waits_for(uut.now, "R1").find("drain"), std::string::npos);
  uut.perform(uut.fsm.on_drain(uut.now, uut.next++, false));
  EXPECT_EQ(uut.offers.size(), 1u);
}

TEST(queue_fsm, refuses_a_runner_of_no_known_version) {
  world uut;
  EXPECT_EQ(
      test::code_of(uut.hear(&queue_fsm::on_hello, rpc::parse_runner_report, 1, {{"version", 0}})),
      ec::version_mismatch);
}

TEST(queue_fsm, has_no_session_of_a_hello_that_is_ill_typed) {
  world uut;
  for (const auto& said :
       {json{{"version", 1}, {"name", 5}}, json{{"version", "1"}}, json::array(),
        json{{"version", 1}, {"free", -1}}, json{{"version", 1}, {"workers", 0.5}},
        json{{"version", 1}, {"attempts", {7}}}}) {
    const auto answer = uut.hear(&queue_fsm::on_hello, rpc::parse_runner_report, 1, said);
    EXPECT_EQ(test::code_of(answer), ec::bad_argument) << said;
    EXPECT_TRUE(uut.fsm.status(uut.now).runners.empty()) << said;
  }
}

TEST(queue_fsm, tells_all_that_a_runner_says_of_its_workers) {
  world uut;
  uut.hello(1, 0);
  uut.push("R1");
  const std::string why(1000, 'w');
  ASSERT_TRUE(uut.heartbeat(1, {{"workers", 1}, {"free", 0}, {"text", why}}));
  EXPECT_NE(uut.fsm.waits_for(uut.now, "R1").find(why), std::string::npos);
}

/// Whatever runners do, each run ends at most once, tokens rise, and accepted attempts stay
/// bounded.
TEST(queue_fsm, keeps_its_promises_under_random_inputs) {
  test::seeded s;
  for (int round = 0; round < 200; ++round) {
    world uut;
    std::map<std::string, int> ends;
    std::uint64_t last_token = 0;
    for (int i = 0; i < 10; ++i) uut.push("R" + std::to_string(i));
    for (int step = 0; step < 300; ++step) {
      const auto session = 1 + s.random.below(3);
      const auto token = s.random.below(last_token + 2);
      switch (s.random.below(8)) {
        case 0:
          uut.hello(session);
          break;
        case 1:
          uut.perform(uut.fsm.on_session_gone(uut.now, session));
          break;
        case 2:
          uut.accept(session, token);
          break;
        case 3:
          uut.append(token, 1 + s.random.below(3));
          break;
        case 4:
          uut.finish(token, s.random.below(2) ? "passed" : "infrastructure", s.random.below(3));
          break;
        case 5:
          uut.pass(milliseconds{s.random.below(20'000)});
          break;
        case 6:
          (void)uut.heartbeat(
              session,
              {{"attempts", {{{"token", token}}}}, {"free", s.random.below(3)}, {"workers", 2}});
          break;
        case 7:
          uut.journal_error.code = s.random.below(4) == 0 ? ec::journal_full : ec::none;
          break;
      }
      for (; last_token < uut.offers.size(); ++last_token)
        ASSERT_TRUE(last_token == 0 ||
                    uut.offers[last_token]["token"] > uut.offers[last_token - 1]["token"]);
      last_token = uut.offers.size();
    }
    for (const auto& op : uut.written)
      if (const auto* set = std::get_if<journal::set_run>(&op)) {
        if (is_terminal(set->state)) ++ends[set->run];
        ASSERT_LE(set->attempts, 3u);
        ASSERT_TRUE(ends[set->run] == 0 || is_terminal(set->state))
            << "a run went on after its end";
      }
    for (const auto& [run, n] : ends) ASSERT_LE(n, 1) << run;
  }
}

TEST(queue_fsm, takes_a_verdict_of_infrastructure_that_names_no_chunks_and_no_other) {
  world uut;
  uut.hello(1);
  uut.push("R");
  uut.accept(1, 1);
  uut.append(1, 1);
  const auto say = [&](const char* verdict) {
    return uut.finish(json{{"token", 1}, {"verdict", verdict}, {"reason", "lost"}});
  };
  EXPECT_EQ(test::code_of(say("passed")), ec::gap);
  EXPECT_EQ((*say("infrastructure"))["state"], "queued");
}

/// The outbox sends again while the journal still answers for what followed a failed write.
TEST(queue_fsm, goes_on_after_late_answers_of_a_sending_that_had_failed) {
  world uut;
  uut.hello(1);
  uut.push("R1");
  uut.accept(1, 1);
  uut.holds = true;
  uut.append(1, 1);
  uut.append(1, 2);
  const auto first = std::exchange(uut.held, {});
  uut.perform(uut.fsm.on_committed(uut.now, first[0].tag, fail(ec::journal_failed, "fsync")));
  uut.append(1, 1);
  uut.append(1, 2);
  const auto second = std::exchange(uut.held, {});
  journal::committed gap;
  gap.is_gap = true;
  uut.perform(uut.fsm.on_committed(uut.now, first[1].tag, gap));
  for (const auto& c : second) uut.perform(uut.fsm.on_committed(uut.now, c.tag, {}));
  uut.holds = false;
  EXPECT_EQ((*uut.append(1, 3))["ack"], 3);
  EXPECT_TRUE(uut.finish(1, "passed", 3));
}
