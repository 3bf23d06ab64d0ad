// The journal on a real SQLite file.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "actors/journal/journal_sqlite.hpp"
#include "config/ids.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/open_runs.hpp"
#include "tests/support/scratch.hpp"

using namespace ntrace;
using namespace ntrace::journal;
using test::code_of;
using test::ok;

namespace {

run_row row(const std::string& id) {
  run_row r;
  r.id = id;
  r.owner = "o";
  r.repo = "r";
  r.sha = std::string(40, 'a');
  r.source = "dir";
  r.created_ms = 1;
  return r;
}
const std::string R1 = "01M876B6J4KZP9X4YQXE3X75SJ", R2 = "01M876B6J4KZP9X4YQXE3X75SK";

std::unique_ptr<journal_sqlite> open_in(const test::scratch& dir,
                                        sqlite::role r = sqlite::role::writer) {
  return ok(journal_sqlite::open(dir / "journal.sqlite", r));
}
committed put(journal_sqlite& db, batch b) { return ok(db.commit({std::move(b)})).at(0); }

}  // namespace

TEST(journal_sqlite, gives_back_after_reopening_what_it_committed) {
  const test::scratch dir;
  {
    auto db = open_in(dir);
    put(*db, {insert_run{row(R1), "k", ""}, event{R1, 0, 0, "intake", "queued", {}}});
    put(*db, {put_attempt{R1, 1, 5, "runner"}, set_run{R1, run_state::running, 1, 5, "", ""}});
    EXPECT_FALSE(
        put(*db, {append_chunk{R1, 1, 5, 1, "stdout", std::string("a\0b\xff", 4)}}).is_stale);
  }
  auto db = open_in(dir);
  const auto open = test::open_runs(*db);
  ASSERT_EQ(open.size(), 1u);
  EXPECT_EQ(open[0].state, run_state::running);
  EXPECT_EQ(open[0].token, 5u);
  EXPECT_EQ(open[0].last_seq, 1u);
  EXPECT_EQ(ok(db->highest_token()), 5u);
  EXPECT_EQ(ok(db->logs(R1, 0, "", 1000))["chunks"][0]["data"], std::string("a\0b\xff", 4));
}

TEST(journal_sqlite, keeps_one_run_for_one_key_over_restarts) {
  const test::scratch dir;
  { put(*open_in(dir), {insert_run{row(R1), "k", {}}}); }
  auto db = open_in(dir);
  const auto again =
      put(*db, {insert_run{row(R2), "k", {}}, event{R2, 0, 0, "intake", "queued", {}}});
  ASSERT_TRUE(again.duplicate_of);
  EXPECT_EQ(again.duplicate_of->id, R1);
  EXPECT_EQ(code_of(db->show(R2)), ec::not_found);
  EXPECT_TRUE(ok(db->why(R1))["events"].empty());
}

TEST(journal_sqlite, stores_no_chunk_of_a_token_that_is_not_live) {
  const test::scratch dir;
  auto db = open_in(dir);
  put(*db, {insert_run{row(R1), "k", {}}, set_run{R1, run_state::running, 1, 5, "", ""}});
  EXPECT_TRUE(
      put(*db, {append_chunk{R1, 1, 4, 1, "stdout", "x"}, event{R1, 1, 4, "a", "b", {}}}).is_stale);
  put(*db, {set_run{R1, run_state::done, 1, 0, "passed", ""}});
  EXPECT_TRUE(put(*db, {append_chunk{R1, 1, 5, 1, "stdout", "x"}}).is_stale);
  EXPECT_TRUE(ok(db->logs(R1, 0, "", 1000))["chunks"].empty());
  EXPECT_TRUE(ok(db->why(R1))["events"].empty());
}

TEST(journal_sqlite, writes_many_batches_in_one_transaction_each_for_itself) {
  const test::scratch dir;
  auto db = open_in(dir);
  const auto done = ok(db->commit({{insert_run{row(R1), "k", {}}},
                                   {insert_run{row(R2), "k", {}}},
                                   {event{R1, 0, 0, "a", "b", {}}}}));
  ASSERT_EQ(done.size(), 3u);
  EXPECT_FALSE(done[0].duplicate_of);
  EXPECT_TRUE(done[1].duplicate_of);
  EXPECT_EQ(ok(db->why(R1))["events"].size(), 1u);
}

TEST(journal_sqlite, writes_nothing_of_a_commit_that_fails) {
  const test::scratch dir;
  auto db = open_in(dir);
  put(*db, {insert_run{row(R1), "k", {}}, put_attempt{R1, 1, 5, "r"}});
  EXPECT_EQ(code_of(db->commit({{insert_run{row(R2), "k2", {}}}, {put_attempt{R1, 2, 5, "r"}}})),
            ec::journal_failed);
  EXPECT_EQ(code_of(db->show(R2)), ec::not_found);
  put(*db, {insert_run{row(R2), "k2", {}}});
}

TEST(journal_sqlite, says_what_is_wrong_with_a_file_it_cannot_use) {
  const test::scratch dir;
  dir.file("journal.sqlite", std::string(8192, 'x'));
  EXPECT_EQ(code_of(journal_sqlite::open(dir / "journal.sqlite", sqlite::role::writer)),
            ec::journal_corrupt);
  EXPECT_EQ(code_of(journal_sqlite::open(dir / "no/such/folder/j", sqlite::role::writer)),
            ec::journal_failed);
}

TEST(journal_sqlite, refuses_a_newer_schema) {
  const test::scratch dir;
  {
    auto db = open_in(dir);
    put(*db, {insert_run{row(R1), "k", {}}});
  }
  const auto bumped = std::system(
      ("sqlite3 " + (dir / "journal.sqlite") + " 'pragma user_version=99' 2>/dev/null").c_str());
  if (bumped !=
      0) {  // Without the sqlite3 shell: the version stands in the file's header, bytes 60 to 63.
    std::fstream f{dir / "journal.sqlite", std::ios::in | std::ios::out | std::ios::binary};
    f.seekp(60);
    f.write("\0\0\0\x63", 4);
  }
  const auto refused = journal_sqlite::open(dir / "journal.sqlite", sqlite::role::writer);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ec::journal_schema);
}

TEST(journal_sqlite, filters_and_bounds_its_lists) {
  const test::scratch dir;
  auto db = open_in(dir);
  random_source random{1};
  for (int i = 0; i < 30; ++i)
    put(*db, {insert_run{row(make_ulid(i + 1, random)), "k" + std::to_string(i), {}}});
  EXPECT_EQ(ok(db->runs({{"limit", 5}})).size(), 5u);
  EXPECT_EQ(ok(db->runs({{"repo", "o/r"}})).size(), 20u);
  EXPECT_EQ(ok(db->runs({{"repo", "o/x"}})).size(), 0u);
  EXPECT_EQ(ok(db->runs({{"state", "done"}})).size(), 0u);
  EXPECT_EQ(code_of(db->show("'; drop table run; --")), ec::bad_argument);
}

TEST(journal_sqlite, revives_only_the_last_attempt_and_only_when_it_expired) {
  const test::scratch dir;
  const auto db = open_in(dir);
  put(*db,
      {insert_run{row(R1), R1, {}}, put_attempt{R1, 1, 1, "n"},
       set_run{R1, run_state::running, 1, 1, "", ""}, append_chunk{R1, 1, 1, 1, "stdout", "x"}});
  put(*db, {end_attempt{R1, 1, "infrastructure", "other", {}, false},
            set_run{R1, run_state::queued, 1, 0, "", ""}});
  EXPECT_TRUE(put(*db, {revive{R1, 1}}).is_stale) << "it did not expire";
  put(*db, {put_attempt{R1, 2, 2, "n"}, set_run{R1, run_state::running, 2, 2, "", ""},
            append_chunk{R1, 2, 2, 1, "stdout", "y"}});
  put(*db, {end_attempt{R1, 2, "infrastructure", "silent", {}, true},
            set_run{R1, run_state::queued, 2, 0, "", ""}});
  EXPECT_EQ(test::open_runs(*db)[0].expired_token, 2u);
  EXPECT_TRUE(put(*db, {revive{R1, 1}}).is_stale);
  const auto done = put(*db, {revive{R1, 2}});
  EXPECT_FALSE(done.is_stale);
  EXPECT_EQ(done.last_seq, 1u);
  const auto back = test::open_runs(*db);
  EXPECT_EQ(back[0].state, run_state::leased);
  EXPECT_EQ(back[0].token, 2u);
  EXPECT_TRUE(put(*db, {revive{R1, 2}}).is_stale) << "twice";
}
