// Checking a journal's file, also with pages that are damaged for real.
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

TEST(journal_file, is_whole_after_ordinary_work) {
  const test::scratch dir;
  fill(dir / "j", 20);
  EXPECT_EQ(findings_in(dir / "j"), std::vector<std::string>{});
  EXPECT_EQ(code_of(check_file(dir / "none")), ec::not_found);
}

TEST(journal_file, of_another_program_is_named_and_left_as_it_is) {
  const test::scratch dir;
  for (const char* sql : {"create table cookie(name text); insert into cookie values('x')",
                          "create table run(id text); pragma user_version=3"}) {
    const auto path = dir / "other.sqlite";
    std::filesystem::remove(path);
    {
      sqlite3* db = nullptr;
      ASSERT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
      EXPECT_EQ(sqlite3_exec(db, sql, nullptr, nullptr, nullptr), SQLITE_OK);
      sqlite3_close(db);
    }
    const auto before = ok(read_file(path));
    EXPECT_EQ(code_of(check_file(path)), ec::journal_corrupt);
    EXPECT_EQ(code_of(compact_file(path)), ec::journal_corrupt);
    EXPECT_EQ(code_of(backup_file(path, dir / "to", true)), ec::journal_corrupt);
    EXPECT_EQ(code_of(salvage_file(path, dir / "to")), ec::journal_corrupt);
    const auto opened = journal_sqlite::open(path, sqlite::role::writer);
    ASSERT_EQ(code_of(opened), ec::journal_corrupt);
    EXPECT_NE(opened.error().message.find("a file of another program"), std::string::npos);
    EXPECT_EQ(ok(read_file(path)), before);
    EXPECT_FALSE(std::filesystem::exists(dir / "to"));
  }
}

TEST(journal_file, is_told_of_what_its_rules_forbid) {
  const test::scratch dir;
  fill(dir / "j", 3);
  {
    auto db = ok(journal_sqlite::open(dir / "j", sqlite::role::writer));
    ok(db->commit({{set_run{id_of(3), run_state::running, 1, 77, {}, ""}}}));
    ok(db->commit({{set_run{id_of(2), run_state::done, 1, 0, {}, ""}}}));
  }
  const auto found = findings_in(dir / "j");
  const auto is_told = [&](const char* words) {
    return std::any_of(found.begin(), found.end(), [&](const std::string& line) {
      return line.find(words) != std::string::npos;
    });
  };
  EXPECT_TRUE(is_told("token 77, which no attempt has")) << found[0];
  EXPECT_TRUE(is_told("done without a verdict")) << found[0];
}

namespace {

struct damage_by_hand {
  const char *name, *sql, *rule, *run;  ///< The run that is named: its number's last digits.
};
void PrintTo(const damage_by_hand& d, std::ostream* out) { *out << d.name; }

class journal_with_a_broken_rule : public ::testing::TestWithParam<damage_by_hand> {};

// Run n has the token n and three lines and an end; of ten runs the last is being worked on.
#define LINE(run, token, what, detail)                                         \
  "insert into event(run, attempt, token, at_ms, actor, what, detail) values(" \
  "'01M876B6J4KZP9X4YQ000000" run "', 1, " token ", 1, 'queue', '" what "', '" detail "');"
#define OF(run) "'01M876B6J4KZP9X4YQ000000" run "'"

INSTANTIATE_TEST_SUITE_P(
    each, journal_with_a_broken_rule,
    ::testing::Values(
        damage_by_hand{"an_outage_that_no_line_tells_of",
                       "insert into outage values(" OF("02") ", 1, 0, 'h', 'refused', '', 0, 0, 1, "
                                                             "1)",
                       "S13", "02"},
        damage_by_hand{"a_token_given_to_two_runs", LINE("10", "3", "offered", "{}"), "S5", "10"},
        damage_by_hand{"tokens_that_do_not_rise", "update event set token=99 where run=" OF("02"),
                       "S5", "03"},
        damage_by_hand{"a_number_given_to_two_pushes",
                       "update run set journal_seq=(select journal_seq from run where id=" OF(
                           "04") ") where id=" OF("05"),
                       "S21", "05"},
        damage_by_hand{"a_number_given_to_a_push_and_a_line",
                       "update run set journal_seq=(select min(id) from event where run=" OF(
                           "07") ") where id=" OF("06"),
                       "S21", "06"},
        damage_by_hand{"a_count_of_numbers_that_is_behind",
                       "update sqlite_sequence set seq=3 where name='event'", "S21", ""},
        damage_by_hand{"a_count_of_tokens_that_is_behind",
                       "update run set token=500 where id=" OF("01"), "S5", "01"},
        damage_by_hand{"two_verdicts", LINE("03", "3", "ended", R"({"state":"failed"})"), "S7",
                       "03"},
        damage_by_hand{"another_verdict_of_the_attempt",
                       "update attempt set verdict='script_failed' where token=3", "S7", "03"},
        damage_by_hand{"overlapping_leases",
                       LINE("10", "11", "offered", "{}") LINE("10", "11", "accepted", "{}"), "S4",
                       "10"},
        damage_by_hand{"a_gap_in_the_chunks", "delete from chunk where token=2 and seq=2", "S8",
                       "02"},
        damage_by_hand{"a_verdict_without_its_chunks", "delete from chunk where token=2", "S9",
                       "02"},
        damage_by_hand{"chunks_of_a_token_that_is_another_runs",
                       "update chunk set run=" OF("02") " where token=3", "S6", "02"},
        damage_by_hand{"more_attempts_than_are_told",
                       "update run set attempts=6 where id=" OF("02"), "S2", "02"},
        damage_by_hand{"an_attempt_that_was_never_offered",
                       "insert into attempt(token, run, number, runner, offered_ms) values(77, " OF(
                           "02") ", 2, 'r', 1)",
                       "S5", "02"},
        damage_by_hand{"an_attempt_with_another_number",
                       "update attempt set number=7 where token=3", "S13", "03"},
        damage_by_hand{"another_state_than_the_story",
                       "update run set state='failed' where id=" OF("02"), "S2", "02"},
        damage_by_hand{"a_state_that_nothing_tells_of", "delete from event where run=" OF("02"),
                       "S18", "02"},
        damage_by_hand{"a_story_without_its_run",
                       "delete from chunk where token=2; delete from attempt where token=2;"
                       "delete from run where id=" OF("02"),
                       "S1", "02"},
        damage_by_hand{"two_runs_with_one_key",
                       "drop index run_key; update run set key='key1' where id=" OF("02"), "S3",
                       "02"},
        damage_by_hand{"a_document_of_no_attempt", "insert into doc(id, token) values('d', 1234)",
                       "S8", ""}),
    [](const ::testing::TestParamInfo<damage_by_hand>& d) { return std::string{d.param.name}; });

}  // namespace

TEST_P(journal_with_a_broken_rule, is_found) {
  const auto& d = GetParam();
  const test::scratch dir;
  fill(dir / "j", 10);
  ASSERT_EQ(findings_in(dir / "j"), std::vector<std::string>{});
  test::change_by_hand(dir / "j", d.sql);

  const auto found = findings_in(dir / "j");

  const auto run = d.run[0] == '\0' ? "" : "run 01M876B6J4KZP9X4YQ000000" + std::string{d.run};
  EXPECT_TRUE(std::any_of(found.begin(), found.end(), [&](const std::string& line) {
    return line.find("(" + std::string{d.rule} + ")") != std::string::npos &&
           line.find(run) != std::string::npos;
  })) << (found.empty() ? "nothing was found" : found.front());
  EXPECT_EQ(code_of(backup_file(dir / "j", dir / "copy")), ec::journal_corrupt);
  ok(backup_file(dir / "j", dir / "evidence", true));
  EXPECT_EQ(findings_in(dir / "evidence"), found);
  ok(salvage_file(dir / "j", dir / "new"));
  EXPECT_EQ(findings_in(dir / "new"), std::vector<std::string>{}) << "a salvage keeps every rule";
}

TEST(journal_file, tells_the_first_hundred_faults_and_counts_all) {
  const test::scratch dir;
  fill(dir / "j", 300);
  test::change_by_hand(dir / "j", "update run set attempts=9");
  const auto found = ok(check_file(dir / "j"));
  EXPECT_EQ(found.findings.size(), 100u);
  EXPECT_EQ(found.count, 300u);
  EXPECT_EQ(found.runs, 300u);
}

/// Retention deletes a run of many chunks in several steps, between which others may look.
TEST(journal_file, is_whole_while_a_run_is_being_deleted) {
  const test::scratch dir;
  fill(dir / "j", 2);
  auto db = ok(journal_sqlite::open(dir / "j", sqlite::role::writer));
  const auto id = id_of(1);
  std::vector<batch> more{
      {set_run{id, run_state::queued, 0, 0, {}, "", true},
       event{id, 0, 0, "queue", "requeued", {}}},
      {put_attempt{id, 1, 7, "runner"}, set_run{id, run_state::running, 1, 7, {}, ""},
       event{id, 0, 7, "queue", "offered", {}}, event{id, 1, 7, "lease", "accepted", {}}}};
  for (std::uint64_t seq = 1; seq <= 100; ++seq)
    more.push_back({append_chunk{id, 1, 7, seq, domain::stream::out, "x"}});
  more.push_back({end_attempt{id, 7, verdict::passed, "", {}},
                  set_run{id, run_state::done, 1, 0, verdict::passed, ""},
                  event{id,
                        1,
                        7,
                        "attempt",
                        "ended",
                        {{"state", "done"}, {"verdict", "passed"}, {"chunks", 100}}}});
  ok(db->commit(more));
  // The run of the highest token is never deleted.
  test::change_by_hand(dir / "j",
                       "insert into attempt(token, run, number, runner, offered_ms) values(9, " OF(
                           "02") ", 0, 'salvage', 1)");
  ASSERT_EQ(findings_in(dir / "j"), std::vector<std::string>{});
  ASSERT_EQ(ok(db->retain({std::chrono::milliseconds{0}, 1}, 0)).runs, 0u) << "a first step";
  EXPECT_EQ(findings_in(dir / "j"), std::vector<std::string>{});
  while (ok(db->retain({std::chrono::milliseconds{0}, 1}, 0)).is_more) {
  }
  EXPECT_EQ(code_of(db->show(id)), ec::not_found);
  EXPECT_FALSE(ok(db->flag("deleting " + id)));
  EXPECT_EQ(findings_in(dir / "j"), std::vector<std::string>{});
}

/// One snapshot for each run: the writer is not held up, and what it writes is no fault.
TEST(journal_file, is_checked_while_it_is_written) {
  const test::scratch dir;
  fill(dir / "j", 200);
  std::atomic<bool> stop{false};
  std::atomic<int> written{0};
  std::thread writer{[&] {
    auto db = ok(journal_sqlite::open(dir / "j", sqlite::role::writer));
    for (int n = 1000; !stop; ++n, ++written) {
      const auto token = static_cast<std::uint64_t>(n);
      ok(db->commit({push_of(n)}));
      ok(db->commit({{put_attempt{id_of(n), 1, token, "runner"},
                      set_run{id_of(n), run_state::queued, 0, token, {}, ""},
                      event{id_of(n), 0, token, "queue", "offered", {}}}}));
    }
  }};
  while (written < 5) std::this_thread::yield();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(findings_in(dir / "j"), std::vector<std::string>{});
  const int before = written;
  while (written < before + 5) std::this_thread::yield();
  stop = true;
  writer.join();
}

TEST(journal_file, of_an_older_version_is_held_against_what_it_has) {
  for (std::size_t version = 1; version < schema_steps.size(); ++version) {
    const test::scratch dir;
    ok(sqlite::connection::open(journal_kind(), dir / "j", sqlite::role::writer,
                                std::span{schema_steps}.first(version)));
    test::change_by_hand(dir / "j",
                         "insert into run(id, key, owner, repo, sha, source, priority, payload, "
                         "state, attempts, token, created_ms, updated_ms) values(" OF(
                             "01") ", 'k', 'o', 'r', 's', 'd', 0, '', 'queued', 0, 0, 1, 1)");
    EXPECT_EQ(findings_in(dir / "j"), std::vector<std::string>{}) << version;
    test::change_by_hand(dir / "j", "update run set state='done'");
    EXPECT_FALSE(findings_in(dir / "j").empty()) << version;
  }
  const test::scratch dir;
  fill(dir / "j", 1);
  test::change_by_hand(dir / "j", "pragma user_version=99");
  EXPECT_EQ(code_of(check_file(dir / "j")), ec::journal_schema) << "a newer one has other rules";
}
