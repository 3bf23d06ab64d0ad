// The simulator itself: repeatable, quiet on sound machines, and honest about its disk.
#include <gtest/gtest.h>

#include "actors/journal/journal_sqlite.hpp"
#include "tests/sim/sim_disk.hpp"
#include "tests/sim/simulation.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/open_runs.hpp"
#include "tests/support/scratch.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;
using namespace ntrace::test;

TEST(simulation, gives_the_same_history_for_the_same_seed) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    sim::run_options o;
    o.seed = seed;
    o.keeps_history = true;
    const auto once = sim::simulate(o);
    const auto again = sim::simulate(o);
    ASSERT_EQ(once.digest, again.digest) << "seed " << seed;
    ASSERT_EQ(once.history, again.history);
  }
}

TEST(simulation, keeps_the_rest_of_a_run_when_faults_are_left_out) {
  sim::run_options o;
  o.seed = 3;
  const auto whole = sim::simulate(o);
  ASSERT_GT(whole.faults.size(), 1u);
  o.faults = {whole.faults[1].number};
  const auto less = sim::simulate(o);
  ASSERT_EQ(less.faults.size(), 1u);
  EXPECT_EQ(less.faults[0].at, whole.faults[1].at);
  EXPECT_EQ(less.pushes, whole.pushes);
}

TEST(simulation, sees_no_violation_in_random_seeds) {
  seeded s;
  const auto seed = s.random.next() >> 1;
  const auto seen = sim::simulate_many(seed, 200);
  EXPECT_EQ(seen.failed, 0u) << "repeat with: ntrace sim --seed " << seen.first_failing.value_or(0);
}

namespace {

journal::run_row some_run(const std::string& id) {
  journal::run_row out;
  out.id = id;
  out.owner = "o";
  out.repo = "r";
  out.sha = "s";
  return out;
}

/// A random batch about a few runs, keys and tokens, so that all answers come up.
journal::batch draw_batch(random_source& random, std::uint64_t& next_token, int& next_run) {
  using namespace journal;
  const auto run = "run" + std::to_string(random.below(4));
  const auto token = 1 + random.below(std::max<std::uint64_t>(next_token, 2) - 1);
  switch (random.below(10)) {
    case 0: {
      const auto id = "new" + std::to_string(next_run++);
      return {insert_run{some_run(id), "key" + std::to_string(random.below(12)), {}}};
    }
    case 1:
      ++next_token;
      return {put_attempt{run, 1 + random.below(3), next_token - 1, "runner"},
              set_run{run, run_state::queued, 0, next_token - 1, "", ""}};
    case 2:
      return {
          set_run{run, static_cast<run_state>(random.below(7)), random.below(4), token, "", ""}};
    case 3:
      return {end_attempt{run, token, "infrastructure", "silent", {}, random.below(3) != 0}};
    case 5:
      return {
          append_doc{run, 1, token, "doc" + std::to_string(random.below(20)), "stdout", {"a", "b"}},
          event{run, 1, token, "attempt", "step", {}}};
    case 6:
      return {bind_run_id{token, "mine" + std::to_string(random.below(4))},
              event{run, 1, token, "lease", "accepted", {}}};
    case 4:
      return {revive{run, token}, event{run, 1, token, "lease", "revived", {}}};
    default:
      return {append_chunk{run, 1, token, 1 + random.below(3), "stdout", "data"},
              event{run, 1, token, "attempt", "step", {}}};
  }
}

std::string text_of(const std::vector<journal::run_row>& rows) {
  std::vector<std::string> lines;
  for (const auto& r : rows)
    lines.push_back(r.id + " " + std::string{to_string(r.state)} + " " +
                    std::to_string(r.attempts) + " token " + std::to_string(r.token) + " chunks " +
                    std::to_string(r.last_seq) + " expired " + std::to_string(r.expired_token) +
                    (r.is_consumers ? " consumer's" : ""));
  std::sort(lines.begin(), lines.end());
  std::string out;
  for (const auto& l : lines) out += l + "\n";
  return out;
}

}  // namespace

TEST(sim_disk, answers_as_the_real_journal_does) {
  seeded s;
  for (int round = 0; round < 10; ++round) {
    const scratch dir;
    auto real = ok(journal::journal_sqlite::open(dir / "journal.sqlite", sqlite::role::writer));
    sim::sim_disk model;
    std::uint64_t next_token = 1;
    int next_run = 0;
    // Runs must be there before anything refers to them, as with the dispatcher.
    std::vector<journal::batch> first;
    for (int i = 0; i < 4; ++i) {
      const auto id = "run" + std::to_string(i);
      first.push_back({journal::insert_run{some_run(id), id, {}}});
    }
    ok(real->commit(first));
    model.write(first);
    model.sync();
    for (int i = 0; i < 40; ++i) {
      std::vector<journal::batch> batches;
      for (auto n = 1 + s.random.below(3); n > 0; --n)
        batches.push_back(draw_batch(s.random, next_token, next_run));
      const auto expected = ok(real->commit(batches));
      const auto seen = model.write(batches);
      model.sync();
      ASSERT_EQ(seen.size(), expected.size());
      for (std::size_t k = 0; k < seen.size(); ++k) {
        ASSERT_EQ(seen[k].is_stale, expected[k].is_stale) << i;
        ASSERT_EQ(seen[k].is_gap, expected[k].is_gap) << i;
        ASSERT_EQ(seen[k].is_known, expected[k].is_known) << i;
        ASSERT_EQ(seen[k].last_seq, expected[k].last_seq) << i;
        ASSERT_EQ(seen[k].duplicate_of.has_value(), expected[k].duplicate_of.has_value()) << i;
      }
      ASSERT_EQ(text_of(model.open_runs()), text_of(test::open_runs(*real)));
      ASSERT_EQ(model.highest_token(), ok(real->highest_token()));
    }
  }
}
