// The journal on a real SQLite file.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "actors/journal/journal_file.hpp"
#include "actors/journal/journal_kind.hpp"
#include "actors/journal/journal_sqlite.hpp"
#include "actors/journal/schema.hpp"
#include "config/ids.hpp"
#include "tests/support/by_hand.hpp"
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
/// What `why` tells of the run, in words.
std::string story_of(journal_sqlite& db, const std::string& run) {
  std::string out;
  const auto why = ok(db.why(run));
  for (const auto& e : why["events"]) out += e["event"].get<std::string>() + " ";
  return out;
}

}  // namespace

TEST(journal_sqlite, tells_another_push_with_a_known_key_from_the_same_push) {
  const test::scratch dir;
  const auto push = [](const std::string& id, const std::string& repo, std::int64_t deadline) {
    auto r = row(id);
    r.repo = repo;
    r.deadline_ms = deadline;
    return insert_run{r, "k", ""};
  };
  {
    auto db = open_in(dir);
    const auto done = ok(db->commit({{push(R1, "r", 500)}, {push(R2, "s", 500)}}));
    EXPECT_FALSE(done[0].duplicate_of);
    ASSERT_TRUE(done[1].duplicate_of) << "in one transaction";
    EXPECT_EQ(done[1].duplicate_of->id, R1);
    ASSERT_EQ(done[1].differences.size(), 1u);
    EXPECT_EQ(done[1].differences[0].member, "repo");
    put(*db, {set_run{R1, run_state::queued, 0, 0, {}, "", true}});  // A requeue.
  }
  auto db = open_in(dir);
  EXPECT_TRUE(put(*db, {push(R2, "r", 500)}).differences.empty()) << "a requeue changes no push";
  EXPECT_EQ(put(*db, {push(R2, "r", 501)}).differences.at(0).member, "deadline_ms");
  EXPECT_EQ(put(*db, {push(R2, "s", 500)}).differences.at(0).then, "r");
}

/// As a journal of schema 5 has it: neither is known of its pushes.
TEST(journal_sqlite, compares_with_pushes_of_an_older_journal_what_that_has) {
  const test::scratch dir;
  put(*open_in(dir), {insert_run{row(R1), "k", ""}});
  test::change_by_hand(dir / "journal.sqlite",
                       "drop table outage; alter table run drop column has_source;"
                       "alter table run drop column asked_deadline_ms; pragma user_version=5");
  auto db = open_in(dir);
  auto again = insert_run{row(R2), "k", ""};
  again.run.deadline_ms = 5;
  EXPECT_TRUE(put(*db, {again}).differences.empty());
  again.run.sha[0] = 'b';
  EXPECT_EQ(put(*db, {again}).differences.at(0).member, "sha");
}

TEST(journal_sqlite, keeps_in_a_salvage_which_attempts_do_not_count) {
  const test::scratch dir;
  {
    auto db = open_in(dir);
    auto record = std::make_shared<domain::outage_record>();
    record->total = record->tries = 1;
    record->last.host = "forge";
    for (const auto& [id, token] : {std::pair{R1, 1u}, std::pair{R2, 2u}}) {
      put(*db, {insert_run{row(id), "", ""}});
      put(*db, {put_attempt{id, 1, token, "r"}, event{id, 1, token, "queue", "offered", {}},
                set_run{id, run_state::leased, 1, token, {}, ""},
                event{id, 1, token, "lease", "accepted", {}}, set_outages{id, record}});
    }
    const nlohmann::json detail{
        {"verdict", "infrastructure"}, {"state", "queued"}, {"outage", {{"host", "forge"}}}};
    put(*db, {end_attempt{R1, 1, verdict::infrastructure, "", {}},
              set_run{R1, run_state::queued, 1, 0, {}, ""},
              event{R1, 1, 1, "attempt", "attempt_ended", detail}});
  }
  ok(salvage_file(dir / "journal.sqlite", dir / "new"));
  EXPECT_EQ(ok(check_file(dir / "new")).findings, std::vector<std::string>{});
  const auto open = test::open_runs(*ok(journal_sqlite::open(dir / "new", sqlite::role::reader)));
  ASSERT_EQ(open.size(), 2u);
  EXPECT_EQ(domain::outages_of(open[0].outages), 1u);
  EXPECT_EQ(open[0].attempts_counted(), 0u);
  EXPECT_EQ(open[1].attempts_counted(), 0u) << "an attempt under way starts again";
}

TEST(journal_sqlite, gives_back_after_reopening_what_it_committed) {
  const test::scratch dir;
  {
    auto db = open_in(dir);
    put(*db, {insert_run{row(R1), "k", ""}});
    put(*db, {put_attempt{R1, 1, 5, "runner"}, set_run{R1, run_state::running, 1, 5, {}, ""}});
    EXPECT_FALSE(
        put(*db, {append_chunk{R1, 1, 5, 1, domain::stream::out, std::string("a\0b\xff", 4)}})
            .is_stale);
  }
  auto db = open_in(dir);
  const auto open = test::open_runs(*db);
  ASSERT_EQ(open.size(), 1u);
  EXPECT_EQ(open[0].state, run_state::running);
  EXPECT_EQ(open[0].token, 5u);
  EXPECT_EQ(open[0].last_seq, 1u);
  EXPECT_EQ(ok(db->highest_token()), 5u);
  EXPECT_EQ(ok(db->logs({R1}, 1000))["chunks"][0]["data"], std::string("a\0b\xff", 4));
}

TEST(journal_sqlite, keeps_one_run_for_one_key_over_restarts) {
  const test::scratch dir;
  { put(*open_in(dir), {insert_run{row(R1), "k", {}}}); }
  auto db = open_in(dir);
  const auto again = put(*db, {insert_run{row(R2), "k", {}}});
  ASSERT_TRUE(again.duplicate_of);
  EXPECT_EQ(again.duplicate_of->id, R1);
  EXPECT_EQ(code_of(db->show(R2)), ec::not_found);
  EXPECT_EQ(story_of(*db, R1), "queued ");
}

TEST(journal_sqlite, stores_no_chunk_of_a_token_that_is_not_live) {
  const test::scratch dir;
  auto db = open_in(dir);
  put(*db, {insert_run{row(R1), "k", {}}, set_run{R1, run_state::running, 1, 5, {}, ""}});
  EXPECT_TRUE(
      put(*db, {append_chunk{R1, 1, 4, 1, domain::stream::out, "x"}, event{R1, 1, 4, "a", "b", {}}})
          .is_stale);
  put(*db, {set_run{R1, run_state::done, 1, 0, verdict::passed, ""}});
  EXPECT_TRUE(put(*db, {append_chunk{R1, 1, 5, 1, domain::stream::out, "x"}}).is_stale);
  EXPECT_TRUE(ok(db->logs({R1}, 1000))["chunks"].empty());
  EXPECT_EQ(story_of(*db, R1), "queued ");
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
  EXPECT_EQ(story_of(*db, R1), "queued b ");
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

TEST(journal_sqlite, numbers_pushes_and_events_in_one_count_that_goes_on_after_reopening) {
  const test::scratch dir;
  {
    auto db = open_in(dir);
    EXPECT_EQ(put(*db, {insert_run{row(R1), "k", {}}}).seq, 1u);
    EXPECT_EQ(put(*db, {event{R1, 0, 0, "a", "b", {}}}).seq, 2u);
    EXPECT_TRUE(put(*db, {insert_run{row(R2), "k", {}}}).duplicate_of);
    EXPECT_EQ(put(*db, {insert_run{row(R2), "", {}}}).seq, 3u) << "a void batch takes no number";
    EXPECT_EQ(db->durable_seq(), 3);
  }
  auto db = open_in(dir);
  EXPECT_TRUE(db->verify(3)) << "the last push counts, too";
  EXPECT_EQ(code_of(db->verify(4)), ec::journal_corrupt);
  EXPECT_EQ(put(*db, {event{R1, 0, 0, "a", "c", {}}}).seq, 4u);
  EXPECT_EQ(story_of(*db, R1), "queued b c ");
}

TEST(journal_sqlite, goes_on_with_numbers_that_nobody_has_when_another_program_wrote_an_event) {
  const test::scratch dir;
  auto db = open_in(dir);
  put(*db, {insert_run{row(R1), "k", {}}});
  test::change_by_hand(dir / "journal.sqlite",
                       "insert into event(id, run, attempt, token, at_ms, actor, what, detail) "
                       "values(2, '" +
                           R1 + "', 0, 0, 1, 'hand', 'x', '')");
  EXPECT_EQ(code_of(db->commit({{event{R1, 0, 0, "a", "b", {}}}})), ec::journal_failed);
  EXPECT_EQ(put(*db, {event{R1, 0, 0, "a", "b", {}}}).seq, 3u);
}

TEST(journal_sqlite, tells_many_runs_without_a_key_apart) {
  const test::scratch dir;
  auto db = open_in(dir);
  put(*db, {insert_run{row(R1), "", {}}});
  EXPECT_FALSE(put(*db, {insert_run{row(R2), "", {}}}).duplicate_of);
  EXPECT_EQ(ok(db->show(R2))["key"], R2) << "its own id stands for it";
}

/// As for lists in the condition of an index: a table would be made for each push.
TEST(journal_sqlite, inserts_a_run_without_a_table_for_the_moment) {
  const test::scratch dir;
  const auto path = dir / "journal.sqlite";
  ok(journal_sqlite::open(path, sqlite::role::writer));
  const auto db = ok(sqlite::connection::open(journal_kind(), path, sqlite::role::reader, {}));
  sqlite::statement s{*db, "explain insert into run(id, state) values('a', 'queued')"};
  int steps = 0;
  ok(s.each([&](const sqlite::statement& row) {
    ++steps;
    EXPECT_NE(row.text(1), "OpenEphemeral");
  }));
  EXPECT_GT(steps, 10);
}

TEST(journal_sqlite, brings_an_older_file_up_to_date) {
  const test::scratch dir;
  {
    auto old = ok(sqlite::connection::open(journal_kind(), dir / "journal.sqlite",
                                           sqlite::role::writer, std::span{schema_steps}.first(4)));
    ASSERT_TRUE(old->run(
        ("insert into run(id, key, owner, repo, sha, source, priority, payload, state, attempts, "
         "token, created_ms, updated_ms) values('" +
         R1 + "', 'k', 'o', 'r', 'a', 's', 0, '', 'running', 1, 5, 1, 1), ('" + R2 + "', '" + R2 +
         "', 'o', 'r', 'a', 's', 0, '', 'queued', 0, 0, 2, 2);"
         "insert into attempt(token, run, number, runner, offered_ms) values(5, '" +
         R1 +
         "', 1, 'n', 1);"
         "insert into event(run, attempt, token, at_ms, actor, what, detail) values('" +
         R2 + "', 0, 0, 1, 'intake', 'queued', ''), ('" + R1 +
         "', 0, 0, 1, 'intake', 'queued', ''), ('" + R1 + "', 1, 5, 1, 'queue', 'accepted', '')")
            .c_str()));
  }
  auto db = open_in(dir);
  EXPECT_EQ(story_of(*db, R1), "queued accepted ");
  EXPECT_EQ(story_of(*db, R2), "queued ");
  EXPECT_EQ(ok(db->show(R1))["attempts"].size(), 1u);
  EXPECT_EQ(ok(db->show(R1))["key"], "k");
  queue_place place;
  ASSERT_EQ(ok(db->queued_runs(place, 10)).size(), 1u);
  EXPECT_EQ(place.seq, 1) << "pushed before the other";
  EXPECT_TRUE(put(*db, {insert_run{row("01M876B6J4KZP9X4YQXE3X75SL"), "k", {}}}).duplicate_of);
  EXPECT_EQ(put(*db, {event{R1, 1, 5, "a", "b", {}}}).seq, 4u);
  EXPECT_EQ(code_of(db->commit({{put_attempt{"none", 1, 6, "n"}}})), ec::journal_failed)
      << "an attempt still belongs to a run";
}

TEST(journal_sqlite, filters_and_bounds_its_lists) {
  const test::scratch dir;
  auto db = open_in(dir);
  random_source random{1};
  for (int i = 0; i < 30; ++i)
    put(*db, {insert_run{row(make_ulid(i + 1, random)), "k" + std::to_string(i), {}}});
  domain::runs_query five;
  five.limit = 5;
  EXPECT_EQ(ok(db->runs(five)).size(), 5u);
  EXPECT_EQ(ok(db->runs({"o/r"})).size(), 20u);
  EXPECT_EQ(ok(db->runs({"o/x"})).size(), 0u);
  EXPECT_EQ(ok(db->runs({"", "done"})).size(), 0u);
  EXPECT_EQ(code_of(db->show("'; drop table run; --")), ec::bad_argument);
}

TEST(journal_sqlite, revives_only_the_last_attempt_and_only_when_it_expired) {
  const test::scratch dir;
  const auto db = open_in(dir);
  put(*db, {insert_run{row(R1), R1, {}}, put_attempt{R1, 1, 1, "n"},
            set_run{R1, run_state::running, 1, 1, {}, ""},
            append_chunk{R1, 1, 1, 1, domain::stream::out, "x"}});
  put(*db, {end_attempt{R1, 1, verdict::infrastructure, "other", {}, false},
            set_run{R1, run_state::queued, 1, 0, {}, ""}});
  EXPECT_TRUE(put(*db, {revive{R1, 1}}).is_stale) << "it did not expire";
  put(*db, {put_attempt{R1, 2, 2, "n"}, set_run{R1, run_state::running, 2, 2, {}, ""},
            append_chunk{R1, 2, 2, 1, domain::stream::out, "y"}});
  put(*db, {end_attempt{R1, 2, verdict::infrastructure, "silent", {}, true},
            set_run{R1, run_state::queued, 2, 0, {}, ""}});
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
