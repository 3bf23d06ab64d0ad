// The runner's decisions, in virtual time.
#include <gtest/gtest.h>

#include "actors/runner/runner_fsm.hpp"
#include "tests/support/only.hpp"

using namespace ntrace;
using ntrace::test::only;
using namespace ntrace::runner;
using namespace std::chrono_literals;
using domain::verdict;

namespace {

const time_point start{};

void enroll(runner_fsm& uut, const std::string& worker) {
  EXPECT_EQ(only<prove_zone>(uut.on_enrolled(start, worker, 0)).size(), 1u);
  uut.on_zone_proved(start, worker, "");
}

runner_fsm with_worker() {
  runner_fsm out{"r", {100ms, 1s}, 1};
  enroll(out, "z");
  out.on_link_up(start, 1s, 6s);
  return out;
}
rpc::offer offer_of(std::uint64_t token, const std::string& run = "R") {
  rpc::offer out;
  out.run = run;
  out.token = token;
  out.source = "s";
  return out;
}
attempt_done done_of(std::uint64_t token, const std::string& run, verdict how) {
  return {token, run, how, false, {}};
}

}  // namespace

TEST(runner_fsm, begins_an_attempt_only_when_its_accept_was_answered) {
  auto uut = with_worker();
  const auto offered = uut.on_offer(start, offer_of(1));
  EXPECT_EQ(only<accept_offer>(offered).size(), 1u);
  EXPECT_TRUE(only<begin_attempt>(offered).empty());
  EXPECT_EQ(only<begin_attempt>(uut.on_accepted(start, {1, start})).size(), 1u);
  EXPECT_TRUE(only<begin_attempt>(uut.on_accepted(start, {1, start})).empty());
}

TEST(runner_fsm, takes_an_offer_heard_twice_once) {
  auto uut = with_worker();
  enroll(uut, "z2");
  uut.on_offer(start, offer_of(1));
  EXPECT_TRUE(uut.on_offer(start, offer_of(1)).empty());
  EXPECT_EQ(uut.pool().free(), 1u);
}

TEST(runner_fsm, frees_the_worker_of_an_offer_that_was_given_away) {
  auto uut = with_worker();
  uut.on_offer(start, offer_of(1));
  EXPECT_EQ(uut.pool().free(), 0u);
  uut.on_not_accepted(start, 1);
  EXPECT_EQ(uut.pool().free(), 1u);
}

TEST(runner_fsm, frees_a_worker_only_when_its_zone_is_empty) {
  auto uut = with_worker();
  uut.on_offer(start, offer_of(1));
  uut.on_accepted(start, {1, start});
  EXPECT_EQ(only<end_zone>(uut.on_attempt_done(done_of(1, "r", verdict::passed))).size(), 1u);
  EXPECT_EQ(uut.pool().free(), 0u);
  uut.on_zone_ended(start, "z", false);
  EXPECT_EQ(uut.pool().free(), 1u);
}

TEST(runner_fsm, gives_an_attempt_that_died_a_verdict_and_one_that_is_over_none) {
  auto uut = with_worker();
  uut.on_offer(start, offer_of(1));
  uut.on_accepted(start, {1, start});
  EXPECT_EQ(only<lose_attempt>(uut.on_attempt_died(1, "boom")).size(), 1u);
  uut.on_attempt_done(done_of(1, "r", verdict::passed));
  EXPECT_TRUE(uut.on_attempt_died(1, "boom").empty());
}

TEST(runner_fsm, beats_at_its_interval_over_however_many_links) {
  auto uut = with_worker();
  for (int i = 0; i < 3; ++i) {
    uut.on_link_lost();
    uut.on_link_up(start, 1s, 6s);
  }
  EXPECT_TRUE(only<send_heartbeat>(uut.on_tick(start + 999ms)).empty());
  EXPECT_EQ(only<send_heartbeat>(uut.on_tick(start + 1s)).size(), 1u);
  EXPECT_TRUE(only<send_heartbeat>(uut.on_tick(start + 1s)).empty());
}

TEST(runner_fsm, ends_what_runs_on_an_expelled_worker_only_when_told_so) {
  auto uut = with_worker();
  uut.on_offer(start, offer_of(1));
  uut.on_accepted(start, {1, start});
  const auto gentle = uut.on_expel(start, "z", false);
  ASSERT_TRUE(gentle);
  EXPECT_TRUE(only<cancel_attempt>(*gentle).empty());
  EXPECT_EQ(only<cancel_attempt>(*uut.on_expel(start, "z", true)).size(), 1u);
  uut.on_attempt_done(done_of(1, "r", verdict::passed));
  EXPECT_EQ(only<forget_zone>(uut.on_zone_ended(start, "z", false)).size(), 1u);
}

TEST(runner_fsm, ends_an_attempt_a_margin_before_its_lease_does_when_no_heartbeat_is_answered) {
  auto uut = with_worker();
  uut.on_offer(start, offer_of(1));
  uut.on_accepted(start, {1, start});
  uut.on_link_lost();
  // A lease of 6 s, a sixth of it as margin.
  EXPECT_TRUE(only<cancel_attempt>(uut.on_tick(start + 4999ms)).empty());
  EXPECT_EQ(only<cancel_attempt>(uut.on_tick(start + 5s)).size(), 1u);
  EXPECT_TRUE(only<cancel_attempt>(uut.on_tick(start + 6s)).empty()) << "told once";
}

TEST(runner_fsm, counts_a_lease_from_when_the_answered_heartbeat_was_sent) {
  auto uut = with_worker();
  uut.on_offer(start, offer_of(1));
  uut.on_accepted(start, {1, start});
  const auto beat = only<send_heartbeat>(uut.on_tick(start + 2s));
  ASSERT_EQ(beat.size(), 1u);
  EXPECT_EQ(beat[0].tokens, std::vector<std::uint64_t>{1});
  // Its answer took 2 s, which the dispatcher may have counted already.
  const auto wakes = only<look_again>(uut.on_heartbeat(start + 4s, beat[0], {}));
  ASSERT_EQ(wakes.size(), 1u);
  EXPECT_EQ(wakes[0].at, start + 7s);
  EXPECT_TRUE(only<cancel_attempt>(uut.on_tick(start + 6999ms)).empty());
  EXPECT_EQ(only<cancel_attempt>(uut.on_tick(start + 7s)).size(), 1u);
}

TEST(runner_fsm, does_not_extend_a_lease_that_a_heartbeat_did_not_name_or_that_is_stale) {
  auto uut = with_worker();
  const auto early = only<send_heartbeat>(uut.on_tick(start + 1s));
  uut.on_offer(start + 1s, offer_of(1));
  uut.on_accepted(start + 1s, {1, start + 1s});
  EXPECT_TRUE(only<look_again>(uut.on_heartbeat(start + 4s, early.at(0), {})).empty());
  const auto late = only<send_heartbeat>(uut.on_tick(start + 3s));
  const auto seen = uut.on_heartbeat(start + 4s, late.at(0), {1});
  EXPECT_TRUE(only<look_again>(seen).empty());
  EXPECT_EQ(only<cancel_attempt>(seen).size(), 1u);
}

TEST(runner_fsm, tells_the_zone_of_each_attempt_when_its_lease_ends) {
  auto uut = with_worker();
  uut.on_offer(start, offer_of(1));
  const auto begun = only<begin_attempt>(uut.on_accepted(start + 1s, {1, start}));
  ASSERT_EQ(begun.size(), 1u);
  EXPECT_EQ(begun[0].lease_ends, start + 5s) << "from when the accept was sent";
  const auto early = only<send_heartbeat>(uut.on_tick(start + 1s)).at(0);
  const auto late = only<send_heartbeat>(uut.on_tick(start + 2s)).at(0);
  const auto renewed = only<renew_lease>(uut.on_heartbeat(start + 3s, late, {}));
  ASSERT_EQ(renewed.size(), 1u);
  EXPECT_EQ(renewed[0].token, 1u);
  EXPECT_EQ(renewed[0].lease_ends, start + 7s);
  EXPECT_TRUE(only<renew_lease>(uut.on_heartbeat(start + 4s, early, {})).empty())
      << "an answer that another has overtaken";
  EXPECT_TRUE(only<renew_lease>(uut.on_tick(start + 6s)).empty()) << "no answer, no renewal";
}

TEST(runner_fsm, renews_no_lease_that_is_over) {
  auto uut = with_worker();
  uut.on_offer(start, offer_of(1));
  uut.on_accepted(start, {1, start});
  const auto beat = only<send_heartbeat>(uut.on_tick(start + 4s)).at(0);
  // We were stopped: the answer comes after the end, though it names a later one.
  EXPECT_TRUE(only<renew_lease>(uut.on_heartbeat(start + 5s, beat, {})).empty());
  EXPECT_EQ(only<cancel_attempt>(uut.on_tick(start + 5s)).size(), 1u);
}

TEST(runner_fsm, says_nothing_while_the_link_is_down) {
  auto uut = with_worker();
  uut.on_link_lost();
  EXPECT_TRUE(uut.on_drain(start, true).empty());
  EXPECT_TRUE(only<send_heartbeat>(uut.on_enrolled(start, "z2", 0)).empty());
  const auto up = only<send_heartbeat>(uut.on_link_up(start, 1s, 6s));
  ASSERT_EQ(up.size(), 1u);
  EXPECT_EQ(up[0].state.workers, 2u);
}

TEST(runner_fsm, begins_nothing_when_the_answer_to_its_accept_took_the_whole_lease) {
  auto uut = with_worker();
  uut.on_offer(start, offer_of(1));
  EXPECT_TRUE(only<begin_attempt>(uut.on_accepted(start + 5s, {1, start})).empty());
  EXPECT_EQ(uut.pool().free(), 1u);
}

TEST(runner_fsm, starts_no_attempt_of_a_run_before_the_zone_of_an_older_one_is_destroyed) {
  auto uut = with_worker();
  enroll(uut, "z2");
  uut.on_offer(start, offer_of(1));
  uut.on_accepted(start, {1, start});
  const auto offered = uut.on_offer(start, offer_of(2));
  EXPECT_TRUE(only<accept_offer>(offered).empty());
  EXPECT_EQ(only<refuse_offer>(offered).size(), 1u);
  ASSERT_EQ(only<cancel_attempt>(offered).size(), 1u) << "its lease is somebody else's by now";
  EXPECT_EQ(only<cancel_attempt>(offered)[0].token, 1u);
  uut.on_attempt_done(done_of(1, "R", verdict::infrastructure));
  EXPECT_EQ(only<refuse_offer>(uut.on_offer(start, offer_of(3))).size(), 1u) << "the zone is there";
  uut.on_zone_ended(start, "z", false);
  EXPECT_EQ(only<accept_offer>(uut.on_offer(start, offer_of(4))).size(), 1u);
  EXPECT_EQ(only<accept_offer>(uut.on_offer(start, offer_of(5, "Q"))).size(), 1u)
      << "another run's waits for none";
}

TEST(runner_fsm, asks_at_each_tick_for_all_that_is_due_later) {
  auto uut = with_worker();
  uut.on_offer(start, offer_of(1));
  uut.on_accepted(start, {1, start});
  const auto next = [&](time_point now) {
    auto earliest = time_point::max();
    for (const auto& e : only<look_again>(uut.on_tick(now))) earliest = std::min(earliest, e.at);
    return earliest;
  };
  EXPECT_EQ(next(start + 500ms), start + 1s) << "the heartbeat";
  uut.on_link_lost();
  EXPECT_EQ(next(start + 1s), start + 5s) << "the lease's end: it is heard of no more";
  EXPECT_EQ(only<cancel_attempt>(uut.on_tick(start + 5s)).size(), 1u);
  EXPECT_EQ(next(start + 6s), time_point::max()) << "it ends, and nothing else is due";
}

TEST(runner_fsm, tells_by_a_type_why_an_attempt_is_to_end) {
  const auto with_attempt = [] {
    auto out = with_worker();
    out.on_offer(start, offer_of(1));
    out.on_accepted(start, {1, start});
    return out;
  };
  const auto cause = [](const runner_effects& todo) {
    const auto ends = only<cancel_attempt>(todo);
    EXPECT_EQ(ends.size(), 1u);
    return ends.at(0).cause;
  };
  EXPECT_EQ(cause(with_attempt().on_tick(start + 6s)), cancel_cause::lease_runs_out);
  EXPECT_EQ(cause(with_attempt().on_offer(start, offer_of(2))), cancel_cause::offered_again);
  EXPECT_EQ(cause(with_attempt().on_stale(1, cancel_cause::words_lost, "full")),
            cancel_cause::words_lost);
  EXPECT_EQ(cause(*with_attempt().on_expel(start, "z", true)), cancel_cause::expelled);
  auto uut = with_attempt();
  const auto beat = only<send_heartbeat>(uut.on_tick(start + 1s));
  EXPECT_EQ(cause(uut.on_heartbeat(start + 1s, beat.at(0), {1})), cancel_cause::lease_lost);
}

TEST(runner_fsm, reports_what_it_works_on_and_what_waits_for_the_dispatcher) {
  auto uut = with_worker();
  uut.on_offer(start, offer_of(1));
  uut.on_accepted(start, {1, start});
  uut.on_attempt_done(done_of(7, "Q", verdict::timed_out));
  const auto seen = uut.state(start);
  EXPECT_EQ(seen.version, rpc::protocol_version);
  EXPECT_EQ(seen.name, "r");
  EXPECT_EQ(seen.workers, 1u);
  EXPECT_EQ(seen.free, 0u);
  ASSERT_EQ(seen.attempts.size(), 2u);
  EXPECT_EQ(seen.attempts[0].run, "R");
  EXPECT_EQ(seen.attempts[0].worker, "z");
  EXPECT_EQ(seen.attempts[0].ended, std::nullopt);
  EXPECT_EQ(seen.attempts[1].token, 7u);
  EXPECT_EQ(seen.attempts[1].ended, verdict::timed_out);
}
