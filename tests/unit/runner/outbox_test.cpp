// The outbox, in virtual time.
#include <gtest/gtest.h>

#include "actors/runner/outbox_fsm.hpp"
#include "tests/support/only.hpp"

using namespace ntrace;
using ntrace::test::only;
using namespace ntrace::runner;
using namespace std::chrono_literals;
using nlohmann::json;

namespace {

const time_point start{};

}  // namespace

TEST(outbox_fsm, says_the_verdict_only_when_every_chunk_is_stored) {
  outbox_fsm uut;
  uut.on_link_up();
  uut.on_begun(7);
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
  uut.on_begun(7);
  uut.on_started(7, {{"token", 7}}, nullptr);
  uut.on_chunk(7, "stdout", "x");
  uut.on_link_lost();
  EXPECT_TRUE(only<say>(uut.on_chunk(7, "stdout", "y")).empty());
  EXPECT_EQ(only<say>(uut.on_link_up()).size(), 3u);
}

TEST(outbox_fsm, asks_again_about_a_chunk_whose_write_was_still_under_way) {
  outbox_fsm uut;
  uut.on_link_up();
  uut.on_begun(7);
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
  uut.on_begun(7);
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
  uut.on_begun(7);
  uut.on_chunk(7, "stdout", "x");
  EXPECT_EQ(only<drop_stale>(uut.on_refused(start, 7, {ec::stale_lease, "", {}})).size(), 1u);
  EXPECT_EQ(uut.size(), 0u);
}

TEST(outbox_fsm, gives_a_verdict_to_what_nobody_works_on_any_more_and_to_nothing_else) {
  outbox_fsm uut;
  uut.on_link_up();
  uut.on_begun(1);
  uut.on_begun(2);
  uut.on_started(1, {{"token", 1}}, nullptr);
  uut.on_finished(2, {{"verdict", "passed"}}, false);
  const auto said = only<say>(uut.on_attempts_lost("the runner's actor was restarted"));
  ASSERT_EQ(said.size(), 1u);
  EXPECT_EQ(said[0].token, 1u);
  EXPECT_EQ(said[0].args["verdict"], "infrastructure");
  EXPECT_EQ(said[0].args["reason"], "the runner's actor was restarted");
  EXPECT_TRUE(only<say>(uut.on_attempts_lost("again")).empty());
}

/// After a restart of the outbox: the rest of what another one has numbered must not be numbered
/// anew.
TEST(outbox_fsm, drops_the_words_of_an_attempt_whose_beginning_it_did_not_hear) {
  outbox_fsm uut;
  uut.on_link_up();
  EXPECT_TRUE(only<say>(uut.on_chunk(7, "stdout", "the ninth")).empty());
  EXPECT_TRUE(only<say>(uut.on_started(7, {{"token", 7}}, nullptr)).empty());
  const auto said = only<say>(uut.on_finished(7, {{"verdict", "passed"}}, false));
  ASSERT_EQ(said.size(), 1u);
  EXPECT_EQ(said[0].args["verdict"], "infrastructure");
  EXPECT_FALSE(said[0].args.contains("last_seq"));
}
