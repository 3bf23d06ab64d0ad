// What the journal deletes of its own accord, on a real SQLite file.
#include <gtest/gtest.h>

#include "actors/journal/journal_file.hpp"
#include "actors/journal/journal_sqlite.hpp"
#include "tests/support/by_hand.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/scratch.hpp"

using namespace ntrace;
using namespace ntrace::journal;
using namespace std::chrono_literals;
using test::code_of;
using test::ok;

namespace {

constexpr std::int64_t day_ms = 86'400'000;

struct journal_world {
  test::scratch dir;
  std::string path = dir / "journal.sqlite";
  std::unique_ptr<journal_sqlite> db = ok(journal_sqlite::open(path, sqlite::role::writer));

  static std::string id(std::uint64_t n) {
    auto digits = std::to_string(n);
    return "run" + std::string(23 - digits.size(), '0') + digits;
  }
  result<void> write(batch b) {
    auto done = db->commit({std::move(b)});
    return done ? result<void>{} : fail(done.error());
  }
  /// A run in its first attempt, token n, with so many chunks.
  result<void> begin(std::uint64_t n, std::uint64_t chunks = 0, std::size_t chunk_bytes = 10) {
    run_row r;
    r.id = id(n);
    r.owner = "o";
    r.repo = "r";
    r.created_ms = 1;
    batch ops{insert_run{r, r.id, {}},
              event{r.id, 0, n, "queue", "offered", {}},
              event{r.id, 1, n, "lease", "accepted", {}},
              event{r.id, 1, n, "attempt", "started", {}},
              put_attempt{r.id, 1, n, "runner"},
              set_run{r.id, run_state::running, 1, n, {}, ""}};
    for (std::uint64_t seq = 1; seq <= chunks; ++seq)
      ops.push_back(
          append_chunk{r.id, 1, n, seq, domain::stream::out, std::string(chunk_bytes, 'x')});
    return write(std::move(ops));
  }
  result<void> end(std::uint64_t n) {
    return write(
        {end_attempt{id(n), n, verdict::passed, "", {}},
         set_run{id(n), run_state::done, 1, 0, verdict::passed, ""},
         event{id(n), 1, n, "attempt", "ended", {{"state", "done"}, {"verdict", "passed"}}}});
  }
  /// `n` runs that ended in the order of their numbers, a millisecond apart.
  void end_many(std::uint64_t n) {
    std::vector<batch> all;
    for (std::uint64_t i = 1; i <= n; ++i) {
      run_row r;
      r.id = id(i);
      r.state = run_state::failed;
      all.push_back(
          {insert_run{r, r.id, {}},
           event{
               r.id, 0, 0, "deadline", "ended", {{"state", "failed"}, {"verdict", "timed_out"}}}});
    }
    ok(db->commit(all));
    sql("update run set verdict='timed_out', updated_ms=cast(substr(id,4) as integer)");
  }
  void sql(const char* text) const { test::change_by_hand(path, text); }
  retained retain_all(const retention& keep, std::int64_t now_ms) {
    retained out;
    for (int steps = 0; steps < 100'000; ++steps) {
      const auto one = ok(db->retain(keep, now_ms));
      out.runs += one.runs;
      out.chunks += one.chunks;
      out.refusals += one.refusals;
      out.pages += one.pages;
      if (!one.is_more) return out;
    }
    ADD_FAILURE() << "it never ends";
    return out;
  }
  std::string findings() const {
    std::string out;
    for (const auto& line : ok(check_file(path)).findings) out += line + "\n";
    return out;
  }
};

}  // namespace

TEST(retention, deletes_the_runs_that_ended_longest_ago_and_no_open_one) {
  journal_world uut;
  uut.end_many(1500);
  ok(uut.begin(9'001));
  uut.sql("update run set updated_ms=1 where state='running'");
  const retention keep{std::chrono::milliseconds{90 * day_ms}, 0};
  EXPECT_EQ(uut.retain_all(keep, 90 * day_ms + 101).runs, 100u) << "1 to 100 are old enough";
  EXPECT_EQ(code_of(uut.db->show("01M876B6J4KZP9X4YQXE3X75SJ")), ec::not_found);
  const auto counts = ok(uut.db->counts());
  EXPECT_EQ(counts["failed"], 1400);
  EXPECT_EQ(counts["running"], 1);
  EXPECT_EQ(uut.retain_all(keep, 90 * day_ms + 101).runs, 0u);
  EXPECT_EQ(uut.findings(), "");
}

TEST(retention, keeps_a_thousand_runs_whatever_the_clock_says) {
  journal_world uut;
  uut.end_many(1500);
  EXPECT_EQ(uut.retain_all({1ms, 0}, 1'000'000 * day_ms).runs, 499u);
  EXPECT_EQ(uut.retain_all({0ms, 0}, 1'000'000 * day_ms).runs, 0u) << "no age, no deletion";
}

TEST(retention, leaves_no_gap_when_a_run_goes_in_several_steps) {
  journal_world uut;
  ok(uut.begin(1, 300));
  ok(uut.end(1));
  ok(uut.begin(2));
  std::size_t steps = 0;
  // So small a bound that all is above it.
  while (ok(uut.db->retain({0ms, 1000}, 1)).is_more) {
    EXPECT_EQ(uut.findings(), "") << steps;
    ASSERT_LT(++steps, 100u);
  }
  EXPECT_GE(steps, 4u);
  EXPECT_EQ(ok(uut.db->counts()).dump(), R"({"running":1})");
}

TEST(retention, keeps_the_highest_token_so_that_none_is_given_twice) {
  journal_world uut;
  ok(uut.begin(1));
  ok(uut.end(1));
  ok(uut.begin(2));
  ok(uut.end(2));
  EXPECT_EQ(uut.retain_all({0ms, 1000}, 1).runs, 1u);
  uut.db.reset();
  uut.db = ok(journal_sqlite::open(uut.path, sqlite::role::writer));
  EXPECT_EQ(ok(uut.db->highest_token()), 2u);
}

TEST(retention, keeps_the_file_below_its_bound_and_gives_pages_back) {
  journal_world uut;
  constexpr std::int64_t bytes = 16 << 20;
  ok(uut.db->bound(bytes));
  const retention keep{0ms, bytes};
  std::uint64_t n = 0;
  for (n = 1; n <= 60; ++n) {  // 60 MiB altogether
    ok(uut.begin(n, 4, 256 << 10));
    ok(uut.end(n));
    uut.retain_all(keep, 1);
    ASSERT_LE(ok(uut.db->size()).first, bytes);
  }
  EXPECT_EQ(uut.findings(), "");
  EXPECT_LT(ok(uut.db->counts())["done"], 14);
  EXPECT_GE(ok(uut.db->counts())["done"], 10) << "no more than need be was deleted";
  const auto gone = uut.retain_all({0ms, 1000}, 1);
  EXPECT_GT(gone.pages, 0u);
  const auto [size, free] = ok(uut.db->size());
  EXPECT_LT(size, 3 << 20) << "of " << free << " free bytes";
  EXPECT_EQ(uut.findings(), "");
}

TEST(retention, refuses_by_name_what_does_not_fit_and_goes_on_when_runs_have_ended) {
  journal_world uut;
  constexpr std::int64_t bytes = 16 << 20;
  ok(uut.db->bound(bytes));
  std::uint64_t n = 1;
  result<void> done;
  for (; n < 100 && done; ++n) done = uut.begin(n, 4, 256 << 10);
  ASSERT_EQ(code_of(done), ec::journal_full);
  EXPECT_NE(done.error().message.find("journal_bytes"), std::string::npos) << done.error().message;
  EXPECT_EQ(uut.retain_all({1ms, bytes}, 1'000'000 * day_ms).runs, 0u) << "all are open";
  for (std::uint64_t i = 1; i <= 4; ++i) ok(uut.end(i));
  EXPECT_GE(uut.retain_all({1ms, bytes}, 1).runs, 3u);
  EXPECT_TRUE(uut.begin(n, 4, 256 << 10));
}

TEST(retention, bounds_the_record_of_refused_pushes) {
  journal_world uut;
  std::vector<batch> all;
  for (std::uint64_t i = 1; i <= 10'100; ++i)
    all.push_back({event{uut.id(i), 0, 0, "intake", "push_refused", {{"code", "draining"}}}});
  ok(uut.db->commit(all));
  EXPECT_EQ(uut.retain_all({}, 1).refusals, 100u);
}

TEST(retention, leaves_nothing_that_a_requeue_could_half_bring_back) {
  journal_world uut;
  ok(uut.begin(1));
  const auto done = ok(uut.db->commit({{set_run{uut.id(5), run_state::queued, 0, 0, {}, "", true},
                                        event{uut.id(5), 0, 0, "queue", "requeued", {}}}}));
  EXPECT_TRUE(done[0].is_stale);
  EXPECT_TRUE(ok(uut.db->news_after(4, 10)).runs.empty()) << "nor its story";
}

TEST(compaction, gives_the_space_of_an_older_journal_back) {
  journal_world uut;
  ok(uut.begin(1, 100, 100'000));
  uut.sql("delete from chunk");
  uut.db.reset();
  uut.sql("pragma auto_vacuum=none; vacuum; pragma wal_checkpoint(truncate)");
  uut.sql(
      "create table filler(x); insert into filler values(zeroblob(5000000)); drop table filler");
  const auto [before, after] = ok(compact_file(uut.path));
  EXPECT_GT(before, 4'000'000u);
  EXPECT_LT(after, 200'000u);
  uut.db = ok(journal_sqlite::open(uut.path, sqlite::role::writer));
  EXPECT_EQ(ok(uut.db->counts())["running"], 1);
  EXPECT_EQ(code_of(compact_file(uut.dir / "absent")), ec::not_found);
}
