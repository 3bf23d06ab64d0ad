// The outbox and the runner's decisions, in virtual time.
#include <gtest/gtest.h>

#include "actors/runner/outbox_fsm.hpp"
#include "actors/runner/runner_fsm.hpp"

using namespace ntrace;
using namespace ntrace::runner;
using namespace std::chrono_literals;
using nlohmann::json;

namespace {

template <class Effect, class Effects>
std::vector<Effect> only(const Effects& all) {
  std::vector<Effect> out;
  for (const auto& one : all)
    if (const auto* e = std::get_if<Effect>(&one)) out.push_back(*e);
  return out;
}

const time_point start{};

}  // namespace

TEST(outbox_fsm, says_the_verdict_only_when_every_chunk_is_stored) {
  outbox_fsm uut;
  uut.on_link_up();
  const auto said = only<say>(uut.on_chunk(7, "stdout", "x"));
  ASSERT_EQ(said.size(), 1u);
  EXPECT_TRUE(only<say>(uut.on_finished(7, {{"verdict", "passed"}}, false)).empty());
  const auto verdict = only<say>(uut.on_stored(start, said[0], 1));
  ASSERT_EQ(verdict.size(), 1u);
  EXPECT_EQ(verdict[0].args["last_seq"], 1);
  uut.on_stored(start, verdict[0], 0);
  EXPECT_EQ(uut.size(), 0u);
}

TEST(outbox_fsm, says_everything_again_over_a_new_link) {
  outbox_fsm uut;
  uut.on_link_up();
  uut.on_started(7, {{"token", 7}}, nullptr);
  uut.on_chunk(7, "stdout", "x");
  uut.on_link_lost();
  EXPECT_TRUE(only<say>(uut.on_chunk(7, "stdout", "y")).empty());
  EXPECT_EQ(only<say>(uut.on_link_up()).size(), 3u);
}

TEST(outbox_fsm, asks_again_about_a_chunk_whose_write_was_still_under_way) {
  outbox_fsm uut;
  uut.on_link_up();
  const auto said = only<say>(uut.on_chunk(7, "stdout", "x"));
  // Answered with a lower number: the chunk is known, not stored; its write may fail yet.
  const auto wait = only<say_again>(uut.on_stored(start, said[0], 0));
  ASSERT_EQ(wait.size(), 1u);
  EXPECT_TRUE(only<say>(uut.on_tick(wait[0].at - 1ms)).empty());
  EXPECT_EQ(only<say>(uut.on_tick(wait[0].at)).size(), 1u);
}

TEST(outbox_fsm, waits_once_however_many_words_were_refused) {
  outbox_fsm uut;
  uut.on_link_up();
  uut.on_chunk(7, "stdout", "x");
  uut.on_chunk(7, "stdout", "y");
  const error full{ec::journal_full, "full", {}};
  EXPECT_EQ(only<say_again>(uut.on_refused(start, 7, full)).size(), 1u);
  EXPECT_TRUE(only<say_again>(uut.on_refused(start, 7, full)).empty());
  EXPECT_EQ(only<say>(uut.on_tick(start + outbox_fsm::retry_wait)).size(), 2u);
}

TEST(outbox_fsm, drops_what_belongs_to_a_stale_lease) {
  outbox_fsm uut;
  uut.on_link_up();
  uut.on_chunk(7, "stdout", "x");
  EXPECT_EQ(only<drop_stale>(uut.on_refused(start, 7, {ec::stale_lease, "", {}})).size(), 1u);
  EXPECT_EQ(uut.size(), 0u);
}

namespace {

runner_fsm with_worker() {
  runner_fsm out{"r", {100ms, 1s}, 1};
  out.on_enrolled("z", 0);
  out.on_link_up(start, 1s);
  return out;
}
json offer_of(std::uint64_t token) { return {{"token", token}, {"run", "R"}, {"source", "s"}}; }

}  // namespace

TEST(runner_fsm, begins_an_attempt_only_when_its_accept_was_answered) {
  auto uut = with_worker();
  const auto offered = uut.on_offer(offer_of(1));
  EXPECT_EQ(only<accept_offer>(offered).size(), 1u);
  EXPECT_TRUE(only<begin_attempt>(offered).empty());
  EXPECT_EQ(only<begin_attempt>(uut.on_accepted(1)).size(), 1u);
  EXPECT_TRUE(only<begin_attempt>(uut.on_accepted(1)).empty());
}

TEST(runner_fsm, takes_an_offer_heard_twice_once) {
  auto uut = with_worker();
  uut.on_enrolled("z2", 0);
  uut.on_offer(offer_of(1));
  EXPECT_TRUE(uut.on_offer(offer_of(1)).empty());
  EXPECT_EQ(uut.pool().free(), 1u);
}

TEST(runner_fsm, frees_the_worker_of_an_offer_that_was_given_away) {
  auto uut = with_worker();
  uut.on_offer(offer_of(1));
  EXPECT_EQ(uut.pool().free(), 0u);
  uut.on_not_accepted(start, 1);
  EXPECT_EQ(uut.pool().free(), 1u);
}

TEST(runner_fsm, frees_a_worker_only_when_its_zone_is_empty) {
  auto uut = with_worker();
  uut.on_offer(offer_of(1));
  uut.on_accepted(1);
  EXPECT_EQ(only<end_zone>(uut.on_attempt_over(1, false, nullptr)).size(), 1u);
  EXPECT_EQ(uut.pool().free(), 0u);
  uut.on_zone_ended(start, "z", false);
  EXPECT_EQ(uut.pool().free(), 1u);
}

TEST(runner_fsm, gives_an_attempt_that_died_a_verdict_and_one_that_is_over_none) {
  auto uut = with_worker();
  uut.on_offer(offer_of(1));
  uut.on_accepted(1);
  EXPECT_EQ(only<lose_attempt>(uut.on_attempt_died(1, "boom")).size(), 1u);
  uut.on_attempt_over(1, false, nullptr);
  EXPECT_TRUE(uut.on_attempt_died(1, "boom").empty());
}

TEST(runner_fsm, beats_at_its_interval_over_however_many_links) {
  auto uut = with_worker();
  for (int i = 0; i < 3; ++i) {
    uut.on_link_lost();
    uut.on_link_up(start, 1s);
  }
  EXPECT_TRUE(only<tell_state>(uut.on_tick(start + 999ms)).empty());
  EXPECT_EQ(only<tell_state>(uut.on_tick(start + 1s)).size(), 1u);
  EXPECT_TRUE(only<tell_state>(uut.on_tick(start + 1s)).empty());
}

TEST(runner_fsm, ends_what_runs_on_an_expelled_worker_only_when_told_so) {
  auto uut = with_worker();
  uut.on_offer(offer_of(1));
  uut.on_accepted(1);
  const auto gentle = uut.on_expel("z", false);
  ASSERT_TRUE(gentle);
  EXPECT_TRUE(only<cancel_attempt>(*gentle).empty());
  EXPECT_EQ(only<cancel_attempt>(*uut.on_expel("z", true)).size(), 1u);
  uut.on_attempt_over(1, false, nullptr);
  EXPECT_EQ(only<forget_zone>(uut.on_zone_ended(start, "z", false)).size(), 1u);
}
