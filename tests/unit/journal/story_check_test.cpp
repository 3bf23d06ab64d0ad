// The rules that the live monitor holds a run's story against: each is broken once.
#include <gtest/gtest.h>

#include "actors/journal/story_check.hpp"

using namespace ntrace;
using namespace ntrace::journal;
using nlohmann::json;

namespace {

/// A run as the journal has it: lines and rows. The rows follow the lines as they do in a sound
/// journal, and what a test says of them goes before.
class telling {
public:
  telling() { s.run = "R"; }
  telling& line(const char* what, std::uint64_t token = 0, json detail = {},
                const char* actor = "queue") {
    const std::string word{what};
    if (is_offer(word)) s.attempts.push_back({token, 0, 0, "", false});
    if (word == "accepted") ++s.attempts_begun;
    if (word == "requeued") s.attempts_begun = 0;
    if (word == "ended" || word == "attempt_ended" || word == "revived")
      for (auto& a : s.attempts)
        if (a.token == token) a.verdict = detail.is_object() ? detail.value("verdict", "") : "";
    events.push_back({static_cast<std::int64_t>(events.size() + 1),
                      {"R", 0, token, actor, what, std::move(detail)}});
    return *this;
  }
  telling& chunks(std::uint64_t token, std::uint64_t number, std::uint64_t last) {
    for (auto& a : s.attempts)
      if (a.token == token) a = {token, number, last, a.verdict, false};
    return *this;
  }
  telling& row(run_state state, std::uint64_t token = 0, const std::string& verdict = "") {
    s.has_row = true;
    s.state = state;
    s.token = token;
    s.verdict = verdict;
    return *this;
  }
  judgement judged(const story_rules& rules = {2, 0}) const {
    story_checker checker{s, rules};
    for (const auto& e : events) checker.on(e);
    return checker.finish();
  }
  /// The broken invariants, each once, in order.
  std::string broken(std::int64_t after = 0, std::uint64_t attempts_max = 2) const {
    std::set<std::string> seen;
    for (const auto& b : judged({attempts_max, after}).broken) seen.insert(b.invariant);
    std::string out;
    for (const auto& one : seen) out += (out.empty() ? "" : " ") + one;
    return out;
  }
  story s;
  std::vector<numbered_event> events;
};

telling accepted() { return telling{}.line("queued").line("offered", 1).line("accepted", 1); }
json ended(const char* verdict, const char* state, std::uint64_t chunks) {
  return {{"verdict", verdict}, {"state", state}, {"reason", "it is so"}, {"chunks", chunks}};
}
telling passed() {
  return accepted()
      .line("started", 1)
      .line("ended", 1, ended("passed", "done", 3))
      .chunks(1, 3, 3)
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
  again.line("ended", 5, ended("infrastructure", "quarantined", 0))
      .row(run_state::quarantined, 0, "infrastructure");
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
  EXPECT_EQ(passed().row(run_state::done, 0, "script_failed").broken(), "S7");
  auto other = passed();
  other.s.attempts[0].verdict = "script_failed";
  EXPECT_EQ(other.broken(), "S7") << "the attempt has another verdict than the story";
  EXPECT_EQ(accepted().line("requeued").row(run_state::queued).broken(), "S7");
}

TEST(story_check, finds_chunks_that_are_missing) {
  auto gap = passed();
  gap.chunks(1, 3, 4);
  EXPECT_EQ(gap.broken(), "S8");
  auto lost = passed();
  lost.chunks(1, 2, 2);
  EXPECT_EQ(lost.broken(), "S9");
  EXPECT_EQ(lost.broken(5), "") << "a line that is not to be judged";
  lost.s.is_being_deleted = true;
  EXPECT_EQ(lost.broken(), "") << "retention has taken some already";
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
                .row(run_state::quarantined, 0, "infrastructure")
                .broken(),
            "S13");
}

TEST(story_check, finds_an_outage_that_is_on_record_otherwise_than_it_is_told) {
  auto lost = ended("infrastructure", "queued", 0);
  lost["outage"] = {{"host", "forge"}};
  auto met = accepted().line("attempt_ended", 1, lost).row(run_state::queued);
  EXPECT_EQ(met.broken(), "") << "an older journal keeps no record";
  met.s.outages = 1;
  EXPECT_EQ(met.broken(), "");
  met.s.outages = 0;
  EXPECT_EQ(met.broken(), "S13") << "it was counted as an attempt";
  lost["state"] = "cancelled";
  auto cancelled = accepted().line("ended", 1, lost).row(run_state::cancelled);
  cancelled.s.outages = 0;
  EXPECT_EQ(cancelled.broken(), "") << "the wish decided";
  lost["state"] = "quarantined";
  auto given_up =
      accepted().line("ended", 1, lost).row(run_state::quarantined, 0, "infrastructure");
  given_up.s.outages = 1;
  EXPECT_EQ(given_up.broken(), "") << "the last try counts, too";
}

/// Each line says the limit by which it was decided.
TEST(story_check, judges_attempts_by_the_limit_that_the_lines_name) {
  const auto tries = [](std::uint64_t limit, std::uint64_t last_limit) {
    auto many = telling{};
    for (std::uint64_t token = 1; token <= 4; ++token)
      many.line("offered", token)
          .line("accepted", token, {{"attempts_max", token < 4 ? limit : last_limit}})
          .line("attempt_ended", token,
                {{"verdict", "infrastructure"}, {"state", "queued"}, {"attempts_max", limit}});
    return many.row(run_state::queued);
  };
  EXPECT_EQ(tries(4, 4).broken(0, 2), "") << "whatever the limit is now";
  EXPECT_EQ(tries(4, 1).broken(0, 0), "") << "it was lowered after the last try was decided";
  EXPECT_EQ(tries(3, 3).broken(0, 0), "S13");
}

TEST(story_check, finds_attempts_that_the_story_does_not_tell_of) {
  auto more = passed();
  more.s.attempts_begun = 9;
  EXPECT_EQ(more.broken(), "S2");
  auto unheard = passed();
  unheard.s.attempts.push_back({7, 0, 0, "", false});
  EXPECT_EQ(unheard.broken(), "S5");
  unheard.s.attempts.back().is_placeholder = true;
  EXPECT_EQ(unheard.broken(), "") << "a salvage put it there";
  auto lost = passed();
  lost.s.attempts.clear();
  EXPECT_EQ(lost.broken(), "S2 S9");
}

TEST(story_check, finds_a_state_that_nothing_tells_of_and_an_end_without_a_verdict) {
  EXPECT_EQ(telling{}.row(run_state::queued).broken(), "");
  EXPECT_EQ(telling{}.row(run_state::queued, 4).broken(), "S18");
  EXPECT_EQ(telling{}.row(run_state::done, 0, "passed").broken(), "S18");
  EXPECT_EQ(passed().row(run_state::done).broken(), "S18");
}

TEST(story_check, finds_a_line_that_is_numbered_before_the_push) {
  auto late = passed();
  late.s.pushed_seq = 1;
  EXPECT_EQ(late.broken(), "S21");
}

TEST(story_check, counts_what_it_does_not_tell_in_words) {
  auto much = telling{};
  for (int i = 0; i < 500; ++i) much.line("revived", 3);
  const auto judged = much.row(run_state::leased, 3).judged();
  EXPECT_EQ(judged.broken.size(), story_checker::told_max);
  EXPECT_GE(judged.count, 500u);
}

TEST(token_order, rises_over_all_runs) {
  token_order uut{4};
  EXPECT_FALSE(uut.on_offered("R", 5));
  EXPECT_FALSE(uut.on_offered("S", 9));
  const auto doubled = uut.on_offered("T", 9);
  ASSERT_TRUE(doubled);
  EXPECT_EQ(doubled->invariant + doubled->run, "S5T");
  EXPECT_TRUE(uut.on_offered("U", 6));
  EXPECT_FALSE(uut.on_offered("V", 10));
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
  // A run that had ended, and that a person brings back.
  EXPECT_EQ(passed()
                .line("ended", 1, ended("passed", "done", 3))
                .line("story_lost", 0, {{"state", "done"}}, "salvage")
                .line("requeued")
                .line("offered", 2)
                .line("accepted", 2)
                .row(run_state::leased, 2)
                .broken(),
            "");
}
