// The rules that the live monitor holds a run's story against: each is broken once.
#include <gtest/gtest.h>

#include "actors/journal/story_check.hpp"

using namespace ntrace;
using namespace ntrace::journal;
using nlohmann::json;

namespace {

/// A run that passed in its second attempt, after a lease that ran out and was not revived.
class telling {
public:
  telling() { s.run = "R"; }
  telling& line(const char* what, std::uint64_t token = 0, json detail = {},
                const char* actor = "queue") {
    s.events.push_back({static_cast<std::int64_t>(s.events.size() + 1),
                        {"R", 0, token, actor, what, std::move(detail)}});
    return *this;
  }
  telling& attempt(std::uint64_t token, std::uint64_t chunks) {
    s.attempts.push_back({token, chunks, chunks});
    return *this;
  }
  telling& row(run_state state, std::uint64_t token = 0, const std::string& verdict = "") {
    s.has_row = true;
    s.state = state;
    s.token = token;
    s.verdict = verdict;
    return *this;
  }
  /// The broken invariants, each once, in order.
  std::string broken(std::int64_t after = 0) const {
    std::set<std::string> seen;
    for (const auto& b : check_story(s, {2, after})) seen.insert(b.invariant);
    std::string out;
    for (const auto& one : seen) out += (out.empty() ? "" : " ") + one;
    return out;
  }
  story s;
};

telling accepted() { return telling{}.line("queued").line("offered", 1).line("accepted", 1); }
json ended(const char* verdict, const char* state, std::uint64_t chunks) {
  return {{"verdict", verdict}, {"state", state}, {"reason", "it is so"}, {"chunks", chunks}};
}
telling passed() {
  return accepted()
      .line("started", 1)
      .line("ended", 1, ended("passed", "done", 3))
      .attempt(1, 3)
      .row(run_state::done, 0, "passed");
}

}  // namespace

TEST(story_check, finds_nothing_wrong_with_sound_stories) {
  EXPECT_EQ(passed().broken(), "");
  EXPECT_EQ(telling{}.line("queued").row(run_state::queued).broken(), "");
  EXPECT_EQ(telling{}.line("queued").line("cancelled").row(run_state::cancelled).broken(), "");
  auto again = accepted()
                   .line("attempt_ended", 1, ended("infrastructure", "queued", 0))
                   .line("offered", 2)
                   .line("refused", 2)
                   .line("offered", 5)
                   .line("accepted", 5)
                   .line("started", 5)
                   .line("started", 5);
  EXPECT_EQ(again.row(run_state::running, 5).broken(), "");
  again.line("ended", 5, ended("infrastructure", "quarantined", 0)).row(run_state::quarantined);
  EXPECT_EQ(again.broken(), "");
  again.line("requeued").line("offered", 6).line("accepted", 6);
  EXPECT_EQ(again.row(run_state::leased, 6).broken(), "") << "a new epoch has attempts of its own";
  EXPECT_EQ(accepted()
                .line("attempt_ended", 1, ended("infrastructure", "queued", 0))
                .line("revived", 1)
                .row(run_state::leased, 1)
                .broken(),
            "");
}

TEST(story_check, finds_a_run_that_is_told_and_not_there) {
  EXPECT_EQ(telling{}.line("queued").broken(), "S1");
}

TEST(story_check, finds_a_state_or_token_that_the_story_does_not_lead_to) {
  EXPECT_EQ(passed().row(run_state::failed, 0, "passed").broken(), "S2");
  EXPECT_EQ(accepted().row(run_state::leased, 7).broken(), "S2");
}

TEST(story_check, finds_two_attempts_at_once) {
  EXPECT_EQ(accepted().line("offered", 2).row(run_state::leased, 1).broken(), "S4");
  EXPECT_EQ(accepted()
                .line("attempt_ended", 1, ended("infrastructure", "queued", 0))
                .line("offered", 2)
                .line("accepted", 2)
                .line("revived", 1)
                .row(run_state::leased, 2)
                .broken(),
            "S4");
}

TEST(story_check, finds_a_token_that_does_not_rise) {
  EXPECT_EQ(telling{}
                .line("queued")
                .line("offered", 4)
                .line("offered", 4)
                .row(run_state::queued)
                .broken(),
            "S5");
}

TEST(story_check, finds_a_verdict_or_chunk_of_a_token_that_is_not_live) {
  EXPECT_EQ(accepted()
                .line("ended", 9, ended("passed", "done", 0))
                .row(run_state::done, 0, "passed")
                .broken(),
            "S6");
  auto stray = passed();
  stray.s.stray_chunks = 1;
  EXPECT_EQ(stray.broken(), "S6");
}

TEST(story_check, finds_a_second_end_and_a_verdict_that_outlives_a_requeue) {
  EXPECT_EQ(passed().line("ended", 1, ended("passed", "done", 3)).broken(), "S7");
  EXPECT_EQ(passed().line("requeued").row(run_state::queued, 0, "passed").broken(), "S7");
  EXPECT_EQ(accepted().line("requeued").row(run_state::queued).broken(), "S7");
}

TEST(story_check, finds_chunks_that_are_missing) {
  auto gap = passed();
  gap.s.attempts[0] = {1, 3, 4};
  EXPECT_EQ(gap.broken(), "S8");
  auto lost = passed();
  lost.s.attempts[0] = {1, 2, 2};
  EXPECT_EQ(lost.broken(), "S9");
  EXPECT_EQ(lost.broken(5), "") << "retention may have taken them since";
}

TEST(story_check, finds_an_attempt_too_many_and_a_quarantine_without_a_reason) {
  auto many = telling{}.line("queued");
  for (std::uint64_t token = 1; token <= 3; ++token)
    many.line("offered", token)
        .line("accepted", token)
        .line("attempt_ended", token, ended("infrastructure", "queued", 0));
  EXPECT_EQ(many.row(run_state::queued).broken(), "S13");
  EXPECT_EQ(many.broken(6), "") << "it may have been begun with another limit";
  EXPECT_EQ(accepted()
                .line("ended", 1, {{"verdict", "infrastructure"}, {"state", "quarantined"}})
                .row(run_state::quarantined)
                .broken(),
            "S13");
}

TEST(story_check, finds_a_retry_of_a_script_that_failed) {
  EXPECT_EQ(accepted()
                .line("attempt_ended", 1, ended("script_failed", "queued", 0))
                .row(run_state::queued)
                .broken(),
            "S14");
}

TEST(story_check, finds_work_on_a_run_that_was_cancelled) {
  EXPECT_EQ(telling{}
                .line("queued")
                .line("cancelled")
                .line("offered", 1)
                .row(run_state::cancelled)
                .broken(),
            "S15");
}

TEST(story_check, believes_a_salvaged_story_from_where_it_begins) {
  EXPECT_EQ(telling{}
                .line("story_lost", 0, {}, "salvage")
                .line("requeued", 0, {}, "salvage")
                .row(run_state::done)
                .broken(),
            "");
}
