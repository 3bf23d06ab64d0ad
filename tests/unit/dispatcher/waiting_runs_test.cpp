// The index of waiting runs, held against the plain rule.
#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>

#include "actors/dispatcher/waiting_runs.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;
using namespace ntrace::dispatcher;

namespace {

run_row row(const std::string& id, const std::string& owner = "o", std::int64_t priority = 0,
            std::int64_t created_ms = 0) {
  run_row out;
  out.id = id;
  out.owner = owner;
  out.repo = "r";
  out.sha = std::string(40, 'a');
  out.priority = priority;
  out.created_ms = created_ms;
  out.source = source_template{"git:{owner}/{repo}#{sha}"}.fill(out.owner, out.repo, out.sha);
  return out;
}

}  // namespace

TEST(waiting_runs, gives_back_what_it_was_given) {
  waiting_runs uut{source_template{"git:{owner}/{repo}#{sha}"}};
  auto given = row("01M876B6J4KZP9X4YQXE3X75SJ", "someone", -7, 1234);
  given.sha = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
  given.source = "dir:/x";
  given.attempts = 3;
  given.deadline_ms = 9;
  given.expired_token = 77;
  ASSERT_TRUE(uut.add(given));
  EXPECT_FALSE(uut.add(given)) << "it is there";
  const auto seen = uut.take(given.id);
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->owner, given.owner);
  EXPECT_EQ(seen->repo, given.repo);
  EXPECT_EQ(seen->sha, given.sha);
  EXPECT_EQ(seen->source, given.source);
  EXPECT_EQ(seen->priority, -7);
  EXPECT_EQ(seen->created_ms, 1234);
  EXPECT_EQ(seen->attempts, 3u);
  EXPECT_EQ(seen->deadline_ms, 9);
  EXPECT_EQ(seen->expired_token, 77u);
  EXPECT_FALSE(uut.find(given.id));
  EXPECT_EQ(uut.size(), 0u);
}

TEST(waiting_runs, gives_its_memory_back_when_a_long_queue_has_run_empty) {
  const auto in_use = [] {
    const auto facts = ::mallinfo2();
    return facts.uordblks + facts.hblkhd;
  };
  waiting_runs uut{source_template{"git:{owner}/{repo}#{sha}"}};
  const auto before = in_use();
  for (int round = 0; round < 2; ++round) {
    for (int n = 0; n < 20'000; ++n) ASSERT_TRUE(uut.add(row(std::to_string(n))));
    while (uut.take_next()) {
    }
    EXPECT_LT(in_use(), before + (256u << 10)) << round;
  }
}

TEST(waiting_runs, gives_every_repo_its_turn_however_much_one_pushes) {
  waiting_runs uut{source_template{"git:{owner}/{repo}#{sha}"}};
  for (int i = 0; i < 9; ++i) uut.add(row("a" + std::to_string(i), "loud", 0, i));
  uut.add(row("b0", "quiet", 0, 100));
  uut.add(row("b1", "quiet", 0, 101));
  std::string order;
  for (int i = 0; i < 5; ++i) order += uut.take_next()->id + " ";
  EXPECT_EQ(order, "a0 b0 a1 b1 a2 ");
}

/// Priority, then the repo's turn, then age, then id: as by looking at all of them.
TEST(waiting_runs, gives_the_run_that_a_look_at_all_of_them_gives) {
  test::seeded s;
  waiting_runs uut{source_template{"git:{owner}/{repo}#{sha}"}};
  std::map<std::string, run_row> model;
  std::map<std::string, std::uint64_t> turns;
  std::uint64_t turn = 0;
  for (int step = 0; step < 20'000; ++step) {
    const auto what = s.random.below(10);
    if (what < 5) {
      const auto r = row("r" + std::to_string(step), "o" + std::to_string(s.random.below(7)),
                         static_cast<std::int64_t>(s.random.below(3)),
                         static_cast<std::int64_t>(s.random.below(50)));
      ASSERT_TRUE(uut.add(r));
      model[r.id] = r;
    } else if (what < 6 && !model.empty()) {
      auto at = model.begin();
      std::advance(at, s.random.below(model.size()));
      ASSERT_TRUE(uut.take(at->first));
      model.erase(at);
    } else {
      const auto best = std::min_element(model.begin(), model.end(), [&](auto& a, auto& b) {
        const auto key = [&](const run_row& r) {
          return std::tuple{-r.priority, turns[r.owner], r.created_ms, r.id};
        };
        return key(a.second) < key(b.second);
      });
      const auto seen = uut.take_next();
      ASSERT_EQ(seen.has_value(), best != model.end());
      if (!seen) continue;
      ASSERT_EQ(seen->id, best->first);
      turns[seen->owner] = ++turn;
      model.erase(best);
    }
    ASSERT_EQ(uut.size(), model.size());
  }
}
