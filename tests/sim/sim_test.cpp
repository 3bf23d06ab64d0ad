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

/// What was given to runs so far.
struct given {
  int next_run = 0;
  std::vector<std::string> runs;  ///< By token - 1.
};

/// A random batch about a few runs, keys and tokens, so that all answers come up.
journal::batch draw_batch(random_source& random, given& g) {
  using namespace journal;
  const auto run = "run" + std::to_string(random.below(4));
  const auto token = 1 + random.below(std::max<std::uint64_t>(g.runs.size(), 1));
  switch (random.below(11)) {
    case 0: {
      auto in = insert_run{some_run("new" + std::to_string(g.next_run++)),
                           "key" + std::to_string(random.below(12)),
                           {}};
      in.run.sha = random.below(4) == 0 ? "t" : "s";
      in.run.priority = random.below(4) == 0 ? 1 : 0;
      in.run.deadline_ms = random.below(4) == 0 ? 1000 : 0;
      in.has_source = random.below(4) == 0;
      in.run.source = in.has_source && random.below(2) == 0 ? "named" : "template";
      return {in};
    }
    case 1:
      g.runs.push_back(run);
      return {put_attempt{run, 1 + random.below(3), g.runs.size(), "runner"},
              set_run{run, run_state::queued, 0, g.runs.size(), {}, ""}};
    case 2: {
      const bool is_own = token <= g.runs.size() && g.runs[token - 1] == run;
      return {set_run{run,
                      static_cast<run_state>(random.below(7)),
                      random.below(4),
                      is_own ? token : 0,
                      {},
                      ""}};
    }
    case 3:
      return {end_attempt{run, token, verdict::infrastructure, "silent", {}, random.below(3) != 0}};
    case 5:
      return {append_doc{run,
                         1,
                         token,
                         "doc" + std::to_string(random.below(20)),
                         domain::stream::out,
                         {"a", "b"}},
              event{run, 1, token, "attempt", "step", {}}};
    case 6:
      return {bind_run_id{token, "mine" + std::to_string(random.below(4))},
              event{run, 1, token, "lease", "accepted", {}}};
    case 7: {
      auto met = std::make_shared<domain::outage_record>();
      met->total = 1 + random.below(9);
      met->tries = random.below(2);
      met->last = {"host" + std::to_string(random.below(3)), outage_cause::silent, "no answer"};
      if (random.below(4) == 0) return {set_outages{run, nullptr}};
      return {set_outages{run, met}, event{run, 1, token, "attempt", "attempt_ended", {}}};
    }
    case 4:
      return {revive{run, token}, event{run, 1, token, "lease", "revived", {}}};
    default:
      return {append_chunk{run, 1, token, 1 + random.below(3), domain::stream::out, "data"},
              event{run, 1, token, "attempt", "step", {}}};
  }
}

std::string text_of(const std::vector<journal::run_row>& rows) {
  std::vector<std::string> lines;
  for (const auto& r : rows)
    lines.push_back(r.id + " " + std::string{to_string(r.state)} + " " +
                    std::to_string(r.attempts) + " token " + std::to_string(r.token) + " chunks " +
                    std::to_string(r.last_seq) + " expired " + std::to_string(r.expired_token) +
                    (r.outages ? " outages " + std::to_string(r.outages->total) + " " +
                                     std::to_string(r.outages->tries) + " " + r.outages->last.host
                               : "") +
                    (r.is_consumers ? " consumer's" : ""));
  std::sort(lines.begin(), lines.end());
  std::string out;
  for (const auto& l : lines) out += l + "\n";
  return out;
}

std::string text_of(const std::vector<journal::push_difference>& all) {
  std::string out;
  for (const auto& d : all) out += d.member + " " + d.then + " " + d.now + "\n";
  return out;
}

/// Those that all else refers to; whichever is there already is a duplicate.
std::vector<journal::batch> known_runs() {
  std::vector<journal::batch> out;
  for (const auto* id : {"run0", "run1", "run2", "run3"})
    out.push_back({journal::insert_run{some_run(id), id, {}}});
  return out;
}

/// What may come late for a run that is kept no longer.
std::vector<journal::batch> late_words(const std::string& run, std::uint64_t token) {
  using namespace journal;
  return {{set_run{run, run_state::queued, 0, 0, {}, ""}},
          {revive{run, token}},
          {append_chunk{run, 1, token, 1, domain::stream::out, "data"}},
          {append_doc{run, 1, token, "late of " + run, domain::stream::out, {"a"}}}};
}

}  // namespace

TEST(sim_disk, answers_as_the_real_journal_does) {
  seeded s;
  for (int round = 0; round < 10; ++round) {
    const scratch dir;
    auto real = ok(journal::journal_sqlite::open(dir / "journal.sqlite", sqlite::role::writer));
    sim::sim_disk model;
    given g;
    const auto write_both = [&](const std::vector<journal::batch>& batches) {
      const auto expected = ok(real->commit(batches));
      const auto seen = model.write(batches);
      model.sync();
      ASSERT_EQ(seen.size(), expected.size());
      for (std::size_t k = 0; k < seen.size(); ++k) {
        ASSERT_EQ(seen[k].is_stale, expected[k].is_stale);
        ASSERT_EQ(seen[k].is_gap, expected[k].is_gap);
        ASSERT_EQ(seen[k].is_known, expected[k].is_known);
        ASSERT_EQ(seen[k].last_seq, expected[k].last_seq);
        ASSERT_EQ(seen[k].duplicate_of.has_value(), expected[k].duplicate_of.has_value());
        ASSERT_EQ(text_of(seen[k].differences), text_of(expected[k].differences));
      }
    };
    const auto delete_in_both = [&] {
      std::size_t deleted = 0;
      // A file beyond its bound, as any is with one of a byte.
      for (journal::retained step{0, 0, 0, 0, true}; step.is_more; deleted += step.runs)
        step = ok(real->retain({milliseconds{0}, 1}, 0));
      const auto gone = model.delete_ended();
      ASSERT_EQ(gone.size(), deleted);
      for (const auto& run : gone)
        ASSERT_NO_FATAL_FAILURE(write_both(late_words(run, 1 + s.random.below(g.runs.size() + 1))));
    };
    for (int i = 0; i < 60; ++i) {
      SCOPED_TRACE(i);
      ASSERT_NO_FATAL_FAILURE(write_both(known_runs()));
      std::vector<journal::batch> batches;
      for (auto n = 1 + s.random.below(3); n > 0; --n) batches.push_back(draw_batch(s.random, g));
      ASSERT_NO_FATAL_FAILURE(write_both(batches));
      if (s.random.below(6) == 0) {
        ASSERT_NO_FATAL_FAILURE(delete_in_both());
      }
      ASSERT_EQ(text_of(model.open_runs()), text_of(test::open_runs(*real)));
      ASSERT_EQ(model.highest_token(), ok(real->highest_token()));
    }
  }
}
