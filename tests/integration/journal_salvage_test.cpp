// Copying and salvaging a journal's file, with pages that are damaged for real.
#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "actors/journal/journal_kind.hpp"
#include "actors/journal/schema.hpp"
#include "config/file.hpp"
#include "tests/support/by_hand.hpp"
#include "tests/support/journal_files.hpp"
#include "tests/support/open_runs.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;
using namespace ntrace::journal;
using namespace ntrace::test;

TEST(journal_file, is_salvaged_without_tokens_that_nobody_can_have_given) {
  const test::scratch dir;
  for (const char* sql : {"update event set token=-56 where id=(select max(id) from event)",
                          "update event set token='x' where id=(select max(id) from event)",
                          "update run set token=9223372036854775807 where state='running'",
                          "update chunk set token=-1 where id=(select max(id) from chunk)"}) {
    const auto path = dir / "j", to = dir / "new";
    for (const auto& one : {path, to}) std::filesystem::remove(one);
    fill(path, 3);
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(db, sql, nullptr, nullptr, nullptr), SQLITE_OK) << sql;
    sqlite3_close(db);
    EXPECT_FALSE(findings_in(path).empty()) << sql;
    EXPECT_EQ(ok(salvage_file(path, to)).runs, 3u);
    EXPECT_EQ(findings_in(to), std::vector<std::string>{}) << sql;
    EXPECT_LT(ok(ok(journal_sqlite::open(to, sqlite::role::reader))->highest_token()), 100u) << sql;
  }
}

TEST(journal_file, of_which_nothing_can_be_read_is_no_success_of_a_salvage) {
  const test::scratch dir;
  fill(dir / "j", 3);
  damage(dir / "j", 0);
  const auto got = salvage_file(dir / "j", dir / "new");
  ASSERT_EQ(code_of(got), ec::journal_corrupt);
  EXPECT_NE(got.error().message.find("put a backup in its place"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(dir / "new"));
  EXPECT_FALSE(std::filesystem::exists(dir / "new.part"));
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
  EXPECT_EQ(findings_in(dir / "copy"), std::vector<std::string>{});
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
  EXPECT_EQ(findings_in(dir / "j"), std::vector<std::string>{});
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
    ok(db->commit(
        {std::move(queued),
         {set_flag{draining_flag, true}},
         {bind_run_id{1, "mine"}},
         {append_doc{id_of(50), 1, 50, "of the running one", domain::stream::out, {"x"}}}}));
  }
  test::change_by_hand(dir / "j", "insert into doc(id, token) values('of one that ended', 1)");
  const auto got = ok(salvage_file(dir / "j", dir / "new"));
  EXPECT_EQ(got.runs, 51u);
  EXPECT_EQ(got.attempts, 50u);
  EXPECT_EQ(got.chunks, 147u) << "the last run starts again";
  EXPECT_EQ(got.unreadable, 0u);
  EXPECT_EQ(got.requeued, 1u);
  EXPECT_EQ(findings_in(dir / "new"), std::vector<std::string>{});
  auto db = ok(journal_sqlite::open(dir / "new", sqlite::role::writer));
  const auto open = test::open_runs(*db);
  ASSERT_EQ(open.size(), 2u);
  EXPECT_EQ(open[0].state, run_state::queued);
  EXPECT_EQ(open[1].deadline_ms, 12'345);
  EXPECT_EQ(ok(db->highest_token()), 50u);
  EXPECT_TRUE(ok(db->flag(draining_flag)));
  EXPECT_EQ(ok(db->show(id_of(1)))["attempts"][0]["run_id"], "mine");
  // A restarted run forgets its documents: they come again, with another attempt.
  ok(db->commit({{put_attempt{id_of(50), 1, 51, "runner"},
                  set_run{id_of(50), run_state::running, 1, 51, {}, ""}}}));
  const auto doc = [&](const char* id) {
    return ok(db->commit({{append_doc{id_of(50), 1, 51, id, domain::stream::out, {"x"}}}}))[0]
        .is_known;
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
    EXPECT_EQ(findings_in(dir / "new"), std::vector<std::string>{}) << round;
    EXPECT_GE(got->runs, 150u) << round;
    auto db = ok(journal_sqlite::open(dir / "new", sqlite::role::writer));
    for (const auto& run : test::open_runs(*db)) EXPECT_EQ(run.state, run_state::queued);
  }
}
