// The words of the values that all features share, and the lines of a run's story.
#include <gtest/gtest.h>

#include "actors/domain/story.hpp"

using namespace ntrace;
using namespace ntrace::domain;
using nlohmann::json;

TEST(domain, reads_back_each_of_its_words) {
  for (int i = 0; i <= static_cast<int>(run_state::cancelled); ++i)
    EXPECT_EQ(run_state_from(to_string(static_cast<run_state>(i))), static_cast<run_state>(i));
  for (int i = 0; i <= static_cast<int>(verdict::source_failed); ++i)
    EXPECT_EQ(verdict_from(to_string(static_cast<verdict>(i))), static_cast<verdict>(i));
  for (std::size_t i = 0; i < stream_count; ++i)
    EXPECT_EQ(stream_from(to_string(static_cast<stream>(i))), static_cast<stream>(i));
  EXPECT_FALSE(verdict_from("Passed"));
  EXPECT_FALSE(stream_from(""));
  EXPECT_EQ(word_of({}), "");
}

TEST(domain, takes_an_unknown_state_for_quarantined) {
  EXPECT_EQ(run_state_from("asleep"), run_state::quarantined);
}

TEST(story, names_actor_and_event_of_each_line) {
  const auto told = [](const story::line& line) {
    const auto stored = to_stored(line);
    return std::string{stored.actor} + " " + std::string{stored.what} + " " + stored.detail.dump();
  };
  EXPECT_EQ(told(story::offered{"r"}), R"(queue offered {"runner":"r"})");
  EXPECT_EQ(told(story::handed{"c"}), R"(queue handed {"consumer":"c"})");
  EXPECT_EQ(told(story::refused{"full"}), R"(queue refused {"reason":"full"})");
  EXPECT_EQ(told(story::accepted{"r", 5, "", ""}),
            R"(lease accepted {"attempts_max":5,"runner":"r"})");
  EXPECT_EQ(told(story::started{"z"}), R"(attempt started {"zone":"z"})");
  EXPECT_EQ(told(story::step{document{json{{"code", "start"}}}}),
            R"(attempt step {"code":"start"})");
  EXPECT_EQ(told(story::revived{}), "lease revived null");
  EXPECT_EQ(told(story::cancelled{}), "queue cancelled null");
  EXPECT_EQ(told(story::requeued{}), "queue requeued null");
  EXPECT_EQ(told(story::push_refused{{ec::draining, "it drains", {}}, {}}),
            R"(intake push_refused {"code":"draining","reason":"it drains"})");
}

TEST(story, tells_an_end_by_its_cause_and_by_what_becomes_of_the_run) {
  story::ended end;
  end.how = verdict::passed;
  end.state = run_state::done;
  end.chunks = 3;
  auto stored = to_stored(end);
  EXPECT_EQ(stored.actor, "attempt");
  EXPECT_EQ(stored.what, "ended");
  EXPECT_EQ(stored.detail,
            (json{{"verdict", "passed"}, {"reason", ""}, {"state", "done"}, {"chunks", 3}}));
  end.cause = end_cause::lease_expired;
  end.how = verdict::infrastructure;
  end.reason = "silent";
  end.state = run_state::queued;
  end.retry_in = milliseconds{250};
  end.attempts_max = 4;
  stored = to_stored(end);
  EXPECT_EQ(stored.actor, "lease");
  EXPECT_EQ(stored.what, "attempt_ended");
  EXPECT_EQ(stored.detail, (json{{"verdict", "infrastructure"},
                                 {"reason", "silent"},
                                 {"state", "queued"},
                                 {"retry_in_ms", 250},
                                 {"attempts_max", 4}}))
      << "the chunks of an attempt that was not heard are not told";
}
