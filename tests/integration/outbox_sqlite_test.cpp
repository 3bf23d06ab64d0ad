// The outbox's real file: held against the simulator's model of it, reopened, damaged.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "actors/runner/outbox_sqlite.hpp"
#include "config/file.hpp"
#include "tests/sim/sim_outbox_disk.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/scratch.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;
using namespace ntrace::runner;
using test::code_of;
using test::ok;

namespace {

rpc::finish verdict_of(std::uint64_t token) {
  rpc::finish out;
  out.token = token;
  out.how = domain::verdict::script_failed;
  out.reason = "exit 1";
  out.receipt = domain::document{{{"steps", {{"run", 7}}}}};
  out.lost_to = outage{"registry.example", outage_cause::no_route, "no way", {}};
  return out;
}

template <class Message>
nlohmann::json json_of(const std::optional<Message>& m) {
  return m ? to_json(*m) : nlohmann::json{};
}

struct counters {
  std::uint64_t last = 0, acked = 0;
};

/// What the machine may write of a few attempts, at random.
outbox_record draw(random_source& random, std::map<std::uint64_t, counters>& live,
                   std::uint64_t& next_token) {
  if (live.empty() || random.below(8) == 0) {
    live[next_token];
    return begun_record{next_token, "run" + std::to_string(next_token++)};
  }
  auto at = live.begin();
  std::advance(at, random.below(live.size()));
  auto& [token, n] = *at;
  switch (random.below(10)) {
    case 0:
      return started_record{token, {token, "z"}};
    case 1:
      return finish_record{token, verdict_of(token)};
    case 2:
      n.acked += random.below(n.last - n.acked + 1);
      return acked_record{token, n.acked};
    case 3:
      if (random.below(3) == 0) {
        const over_record out{token};
        live.erase(at);
        return out;
      }
      [[fallthrough]];
    default:
      return chunk_record{token,
                          {++n.last, domain::stream::out, std::string(random.below(300), 'x')}};
  }
}

void expect_same(outbox_sqlite& file, const sim::sim_outbox_disk& model) {
  const auto seen = ok(file.attempts()), wanted = model.attempts();
  ASSERT_EQ(seen.size(), wanted.size());
  for (std::size_t i = 0; i < seen.size(); ++i) {
    EXPECT_EQ(seen[i].token, wanted[i].token);
    EXPECT_EQ(seen[i].run, wanted[i].run);
    EXPECT_EQ(json_of(seen[i].started), json_of(wanted[i].started));
    EXPECT_EQ(json_of(seen[i].finish), json_of(wanted[i].finish));
    EXPECT_EQ(seen[i].acked, wanted[i].acked);
    EXPECT_EQ(seen[i].size_bytes, wanted[i].size_bytes);
    const auto from = seen[i].acked + 1, to = seen[i].acked + seen[i].size_bytes.size();
    const auto chunks = ok(file.chunks(seen[i].token, from, to)),
               expected = ok(model.chunks(seen[i].token, from, to));
    ASSERT_EQ(chunks.size(), expected.size());
    for (std::size_t c = 0; c < chunks.size(); ++c) EXPECT_EQ(chunks[c].data, expected[c].data);
  }
}

}  // namespace

TEST(outbox_sqlite, leaves_a_database_of_another_program_as_it_is) {
  const test::scratch dir;
  const auto path = dir / "outbox.sqlite";
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(db, "create table event(x)", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
  const auto before = ok(read_file(path));
  EXPECT_EQ(code_of(outbox_sqlite::open(path)), ec::journal_corrupt);
  EXPECT_EQ(ok(read_file(path)), before);
}

TEST(outbox_sqlite, gives_what_the_simulators_model_gives_also_after_it_was_opened_again) {
  test::seeded s;
  const test::scratch dir;
  sim::sim_outbox_disk model;
  auto file = ok(outbox_sqlite::open(dir / "outbox.sqlite"));
  std::map<std::uint64_t, counters> live;
  std::uint64_t next_token = 1;
  for (int round = 0; round < 60; ++round) {
    std::vector<outbox_record> records;
    for (auto n = 1 + s.random.below(20); n > 0; --n)
      records.push_back(draw(s.random, live, next_token));
    ok(file->write(records));
    model.write(records);
    if (s.random.below(10) == 0) {
      file.reset();
      file = ok(outbox_sqlite::open(dir / "outbox.sqlite"));
    }
    expect_same(*file, model);
  }
}

TEST(outbox_sqlite, writes_nothing_of_what_it_cannot_write_whole) {
  const test::scratch dir;
  const auto file = ok(outbox_sqlite::open(dir / "outbox.sqlite"));
  ok(file->write({begun_record{1, "a"}}));
  EXPECT_EQ(code_of(file->write(
                {chunk_record{1, {1, domain::stream::out, "x"}}, begun_record{1, "twice"}})),
            ec::journal_failed);
  const auto seen = ok(file->attempts());
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_TRUE(seen[0].size_bytes.empty());
  ok(file->write({chunk_record{1, {1, domain::stream::out, "x"}}}));
}

TEST(outbox_sqlite, refuses_a_chunk_that_is_not_there) {
  const test::scratch dir;
  const auto file = ok(outbox_sqlite::open(dir / "outbox.sqlite"));
  ok(file->write({begun_record{1, "a"}, chunk_record{1, {1, domain::stream::out, "x"}}}));
  EXPECT_EQ(code_of(file->chunks(1, 1, 2)), ec::journal_corrupt);
}

TEST(outbox_sqlite, says_what_to_do_about_a_file_that_is_none) {
  const test::scratch dir;
  std::ofstream{dir / "outbox.sqlite"} << std::string(8192, 'z');
  const auto opened = outbox_sqlite::open(dir / "outbox.sqlite");
  ASSERT_EQ(code_of(opened), ec::journal_corrupt);
  EXPECT_NE(opened.error().message.find("move " + (dir / "outbox.sqlite") + " away"),
            std::string::npos)
      << opened.error().message;
}

/// Of a version that put no token into what is kept, or of one that has other words.
TEST(outbox_sqlite, reads_what_an_older_version_has_left_and_drops_what_it_does_not_know) {
  const test::scratch dir;
  const auto path = dir / "outbox.sqlite";
  ok(ok(outbox_sqlite::open(path))
         ->write({begun_record{1, "a"}, begun_record{2, "b"},
                  chunk_record{2, {1, domain::stream::out, "x"}}}));
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(db,
                         R"(update attempt set started='{"zone":"z"}',
                            finish='{"verdict":"passed","reason":"","receipt":{}}' where token=1;
                            update attempt set started='{"zone":5}',
                            finish='{"verdict":"splendid"}' where token=2;
                            update chunk set stream='colours')",
                         nullptr, nullptr, nullptr),
            SQLITE_OK);
  sqlite3_close(db);
  const auto file = ok(outbox_sqlite::open(path));
  const auto seen = ok(file->attempts());
  ASSERT_EQ(seen.size(), 2u);
  ASSERT_TRUE(seen[0].started && seen[0].finish);
  EXPECT_EQ(seen[0].started->token, 1u);
  EXPECT_EQ(seen[0].finish->token, 1u);
  EXPECT_EQ(seen[0].finish->how, domain::verdict::passed);
  EXPECT_FALSE(seen[1].started || seen[1].finish);
  EXPECT_EQ(code_of(file->chunks(2, 1, 1)), ec::journal_corrupt);
}
