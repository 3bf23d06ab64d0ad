// What a connection writes through the layer that joins its log's writes is what it would write
// without.
#include <gtest/gtest.h>

#include <array>

#include "config/sqlite.hpp"
#include "tests/support/faulty_disk.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/scratch.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;
using sqlite::statement;
using test::code_of;
using test::disk_fault;
using test::ok;

namespace {

constexpr std::array<std::string_view, 1> steps{
    "create table t(id integer primary key, data blob not null);"};

struct joined_world {
  test::scratch dir;
  test::faulty_disk disk;
  std::string path = dir / "file.sqlite";
  std::unique_ptr<sqlite::connection> writer = open(sqlite::role::writer);

  std::unique_ptr<sqlite::connection> open(sqlite::role r) const {
    return ok(sqlite::connection::open({"the file", ""}, path, r, steps));
  }
  result<void> run(const char* sql) { return statement{*writer, sql}.done(); }
  result<void> put(std::int64_t id, std::size_t bytes) {
    return statement{*writer, "insert or replace into t values(?, zeroblob(?))"}
        .bind(id)
        .bind(bytes)
        .done();
  }
  static std::int64_t count(sqlite::connection& db) {
    statement s{db, "select count(*) from t"};
    EXPECT_TRUE(ok(s.step()));
    return s.number(0);
  }
  /// As another connection, and another process, sees it.
  std::int64_t seen() const { return count(*open(sqlite::role::reader)); }
};

}  // namespace

TEST(joined_log, writes_a_transaction_of_many_pages_at_once) {
  joined_world w;
  ok(w.put(0, 10));
  ok(w.run("begin"));
  for (int i = 1; i <= 10; ++i) ok(w.put(i, 4000));
  const int before = w.disk.log_writes;
  ok(w.run("commit"));
  EXPECT_EQ(w.disk.log_writes - before, 1);
  EXPECT_EQ(w.seen(), 11);
}

TEST(joined_log, gives_back_what_a_transaction_larger_than_the_cache_wrote) {
  joined_world w;
  ok(w.run("begin"));
  for (int i = 1; i <= 200; ++i) ok(w.put(i, 100'000));
  EXPECT_EQ(w.count(*w.writer), 200) << "some of it is in the log already";
  EXPECT_EQ(w.seen(), 0);
  ok(w.run("commit"));
  EXPECT_EQ(w.seen(), 200);
  statement whole{*w.writer, "pragma integrity_check"};
  EXPECT_TRUE(ok(whole.step()));
  EXPECT_EQ(whole.text(0), "ok");
}

TEST(joined_log, leaves_nothing_of_a_transaction_that_found_no_room_and_goes_on) {
  joined_world w;
  ok(w.put(1, 10));
  w.disk.fault = disk_fault::full;
  EXPECT_EQ(code_of(w.put(2, 10)), ec::journal_full);
  w.disk.fault = disk_fault::none;
  EXPECT_EQ(w.seen(), 1);
  ok(w.put(3, 10));
  EXPECT_EQ(w.seen(), 2);
}

TEST(joined_log, leaves_the_same_rows_as_plain_sqlite_whatever_is_done) {
  test::seeded s;
  joined_world w;
  sqlite3* raw = nullptr;
  ASSERT_EQ(sqlite3_open((w.dir / "plain.sqlite").c_str(), &raw), SQLITE_OK);
  const std::unique_ptr<sqlite3, int (*)(sqlite3*)> plain{raw, sqlite3_close};
  const auto both = [&](const std::string& sql) {
    ASSERT_TRUE(w.writer->run(sql.c_str())) << sql;
    ASSERT_EQ(sqlite3_exec(raw, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK) << sql;
  };
  ASSERT_EQ(
      sqlite3_exec(raw, "pragma synchronous=off; create table t(id integer primary key, data)",
                   nullptr, nullptr, nullptr),
      SQLITE_OK);
  both("pragma cache_size=10");  // So that transactions spill.
  for (int round = 0; round < 60; ++round) {
    both("begin");
    for (auto n = s.random.below(30); n > 0; --n) {
      const auto id = std::to_string(s.random.below(500));
      switch (s.random.below(5)) {
        case 0:
          both("delete from t where id=" + id);
          break;
        case 1:
          both("savepoint one; update t set data=zeroblob(" + std::to_string(s.random.below(9000)) +
               ") where id<" + id + "; rollback to one; release one");
          break;
        default:
          both("insert or replace into t values(" + id + ", zeroblob(" +
               std::to_string(s.random.below(9000)) + "))");
      }
    }
    both(s.random.below(4) == 0 ? "rollback" : "commit");
    if (s.random.below(8) == 0) both("pragma wal_checkpoint(passive)");
    if (s.random.below(8) == 0) both("pragma wal_checkpoint(truncate)");
    const auto rows = [](sqlite3* db) {
      std::string out;
      sqlite3_exec(
          db, "select id, length(data) from t order by id",
          [](void* to, int, char** value, char**) {
            *static_cast<std::string*>(to) += std::string{value[0]} + ":" + value[1] + " ";
            return 0;
          },
          &out, nullptr);
      return out;
    };
    ASSERT_EQ(rows(w.open(sqlite::role::reader)->handle()), rows(raw)) << "round " << round;
  }
}
