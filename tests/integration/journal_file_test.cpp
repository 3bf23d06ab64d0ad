// Checking, copying and salvaging a journal's file, with pages that are damaged for real.
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "actors/journal/journal_file.hpp"
#include "actors/journal/journal_sqlite.hpp"
#include "config/file.hpp"
#include "tests/support/by_hand.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/open_runs.hpp"
#include "tests/support/scratch.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;
using namespace ntrace::journal;
using test::code_of;
using test::ok;

namespace {

constexpr int page_bytes = 4096;  // SQLite's default

std::string id_of(int n) {
  auto digits = std::to_string(n);
  return "01M876B6J4KZP9X4YQ" + std::string(8 - digits.size(), '0') + digits;
}

batch push_of(int n) {
  run_row r;
  r.id = id_of(n);
  r.owner = "o";
  r.repo = "r";
  r.sha = std::string(40, 'a');
  r.source = "dir";
  r.created_ms = n;
  return {insert_run{r, "key" + std::to_string(n), ""}};
}

/// Runs 1 to `runs`, each with an attempt and chunks; all done but the last, which is running.
void fill(const std::string& path, int runs) {
  auto db = ok(journal_sqlite::open(path, sqlite::role::writer));
  for (int n = 1; n <= runs; ++n) {
    const auto id = id_of(n);
    const auto token = static_cast<std::uint64_t>(n);
    std::vector<batch> all{push_of(n)};
    all.push_back({put_attempt{id, 1, token, "runner"},
                   set_run{id, run_state::running, 1, token, "", ""},
                   event{id, 1, token, "attempt", "started", {}}});
    for (std::uint64_t seq = 1; seq <= 3; ++seq)
      all.push_back({append_chunk{id, 1, token, seq, "stdout", std::string(400, 'x')}});
    if (n < runs)
      all.push_back({end_attempt{id, token, "passed", "", {}},
                     set_run{id, run_state::done, 1, 0, "passed", ""},
                     event{id, 1, token, "attempt", "ended", {{"state", "done"}}}});
    ok(db->commit(all));
  }
}

void damage(const std::string& path, std::uint64_t page) {
  std::fstream file{path, std::ios::in | std::ios::out | std::ios::binary};
  file.seekp(static_cast<std::streamoff>(page * page_bytes));
  file << std::string(page_bytes, '\x5a');
}

}  // namespace

TEST(journal_file, is_whole_after_ordinary_work) {
  const test::scratch dir;
  fill(dir / "j", 20);
  EXPECT_EQ(ok(check_file(dir / "j")), std::vector<std::string>{});
  EXPECT_EQ(code_of(check_file(dir / "none")), ec::not_found);
}

TEST(journal_file, is_told_of_what_its_rules_forbid) {
  const test::scratch dir;
  fill(dir / "j", 3);
  {
    auto db = ok(journal_sqlite::open(dir / "j", sqlite::role::writer));
    ok(db->commit({{set_run{id_of(3), run_state::running, 1, 77, "", ""}}}));
    ok(db->commit({{set_run{id_of(2), run_state::done, 1, 0, "", ""}}}));
  }
  const auto found = ok(check_file(dir / "j"));
  ASSERT_EQ(found.size(), 2u);
  EXPECT_NE(found[0].find("token 77, which no attempt has"), std::string::npos) << found[0];
  EXPECT_NE(found[1].find("done without a verdict"), std::string::npos) << found[1];
}

TEST(journal_file, is_copied_whole_while_it_is_written) {
  const test::scratch dir;
  fill(dir / "j", 300);
  std::atomic<bool> stop{false};
  std::atomic<int> next{1000};
  std::thread writer{[&] {
    auto db = ok(journal_sqlite::open(dir / "j", sqlite::role::writer));
    while (!stop) ok(db->commit({push_of(next++)}));
  }};
  while (next < 1010) std::this_thread::yield();
  const auto before = next.load() - 2;  // The newest may be under way.
  const auto copied = backup_file(dir / "j", dir / "copy");
  stop = true;
  writer.join();
  ok(copied);
  EXPECT_EQ(ok(check_file(dir / "copy")), std::vector<std::string>{});
  auto copy = ok(journal_sqlite::open(dir / "copy", sqlite::role::writer));
  EXPECT_TRUE(copy->show(id_of(before))) << "what was committed before it began is in it";
  EXPECT_EQ(code_of(backup_file(dir / "j", dir / "copy")), ec::bad_argument);
  EXPECT_FALSE(std::filesystem::exists(dir / "copy.part"));
}

TEST(journal_file, is_not_taken_for_a_backup_when_it_is_damaged) {
  const test::scratch dir;
  fill(dir / "j", 300);
  damage(dir / "j", 40);
  EXPECT_EQ(code_of(backup_file(dir / "j", dir / "copy")), ec::journal_corrupt);
  EXPECT_FALSE(std::filesystem::exists(dir / "copy"));
}

/// After a crash the last commits are in the log beside the file.
TEST(journal_file, is_left_as_it_was_by_a_check_and_by_a_salvage) {
  const test::scratch dir;
  const auto writer = ok(journal_sqlite::open(dir / "live", sqlite::role::writer));
  for (int n = 1; n <= 5; ++n) ok(writer->commit({push_of(n)}));
  for (const auto* side : {"", "-wal"})
    std::filesystem::copy_file(dir / "live" + side, dir / "j" + side);
  const auto before = std::pair{ok(read_file(dir / "j")), ok(read_file(dir / "j-wal"))};
  EXPECT_EQ(ok(check_file(dir / "j")), std::vector<std::string>{});
  EXPECT_EQ(ok(salvage_file(dir / "j", dir / "new")).runs, 5u);
  EXPECT_EQ((std::pair{ok(read_file(dir / "j")), ok(read_file(dir / "j-wal"))}), before);
}

TEST(journal_file, is_salvaged_whole_when_nothing_is_damaged) {
  const test::scratch dir;
  fill(dir / "j", 50);
  {
    auto db = ok(journal_sqlite::open(dir / "j", sqlite::role::writer));
    auto queued = push_of(99);
    std::get<insert_run>(queued[0]).run.deadline_ms = 12'345;
    ok(db->commit({std::move(queued),
                   {set_flag{draining_flag, true}},
                   {bind_run_id{1, "mine"}},
                   {append_doc{id_of(50), 1, 50, "of the running one", "stdout", {"x"}}}}));
  }
  test::change_by_hand(dir / "j", "insert into doc(id, token) values('of one that ended', 1)");
  const auto got = ok(salvage_file(dir / "j", dir / "new"));
  EXPECT_EQ(got.runs, 51u);
  EXPECT_EQ(got.attempts, 50u);
  EXPECT_EQ(got.chunks, 147u) << "the last run begins anew";
  EXPECT_EQ(got.unreadable, 0u);
  EXPECT_EQ(got.requeued, 1u);
  EXPECT_EQ(ok(check_file(dir / "new")), std::vector<std::string>{});
  auto db = ok(journal_sqlite::open(dir / "new", sqlite::role::writer));
  const auto open = test::open_runs(*db);
  ASSERT_EQ(open.size(), 2u);
  EXPECT_EQ(open[0].state, run_state::queued);
  EXPECT_EQ(open[1].deadline_ms, 12'345);
  EXPECT_EQ(ok(db->highest_token()), 50u);
  EXPECT_TRUE(ok(db->flag(draining_flag)));
  EXPECT_EQ(ok(db->show(id_of(1)))["attempts"][0]["run_id"], "mine");
  // A document of what begins anew is not known: it comes again, with another attempt.
  ok(db->commit({{put_attempt{id_of(50), 1, 51, "runner"},
                  set_run{id_of(50), run_state::running, 1, 51, "", ""}}}));
  const auto doc = [&](const char* id) {
    return ok(db->commit({{append_doc{id_of(50), 1, 51, id, "stdout", {"x"}}}}))[0].is_known;
  };
  EXPECT_TRUE(doc("of one that ended"));
  EXPECT_FALSE(doc("of the running one"));
}

/// Whatever pages are hit: what comes out is whole, and most of it is there.
TEST(journal_file, is_salvaged_to_a_whole_one_whatever_pages_are_damaged) {
  test::seeded s;
  for (int round = 0; round < 12; ++round) {
    const test::scratch dir;
    fill(dir / "j", 300);
    const auto pages = std::filesystem::file_size(dir / "j") / page_bytes;
    for (auto n = 1 + s.random.below(3); n > 0; --n)
      damage(dir / "j", 12 + s.random.below(pages - 12));
    const auto got = salvage_file(dir / "j", dir / "new");
    EXPECT_FALSE(std::filesystem::exists(dir / "new.part"));
    if (!got) {  // The schema's own pages.
      EXPECT_EQ(got.error().code, ec::journal_corrupt);
      continue;
    }
    EXPECT_EQ(ok(check_file(dir / "new")), std::vector<std::string>{}) << round;
    EXPECT_GE(got->runs, 150u) << round;
    auto db = ok(journal_sqlite::open(dir / "new", sqlite::role::writer));
    for (const auto& run : test::open_runs(*db)) EXPECT_EQ(run.state, run_state::queued);
  }
}
