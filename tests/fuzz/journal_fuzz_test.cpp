// A journal's file as it may be found: damaged, cut, of another program, or no database at all.
// None ends the process, none is changed by looking at it, and what a salvage makes of one keeps
// all rules.
#include <gtest/gtest.h>

#include <filesystem>

#include "actors/journal/journal_file.hpp"
#include "actors/journal/journal_sqlite.hpp"
#include "config/digest.hpp"
#include "tests/fuzz/fuzz.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/scratch.hpp"

using namespace ntrace;
using namespace ntrace::journal;
using test::code_of;
using test::fuzz;
using test::ok;

namespace {

const std::string wal = "-wal";

/// A journal with a run that is done, one that is under way and one that waits; its file, and its
/// log when it is `in_log`.
std::pair<std::string, std::string> make_journal(const test::scratch& dir, bool in_log) {
  const auto path = dir / "made";
  {
    auto db = ok(journal_sqlite::open(path, sqlite::role::writer));
    for (std::uint64_t n = 1; n <= 3; ++n) {
      run_row r;
      r.id = "01M876B6J4KZP9X4YQ0000000" + std::to_string(n);
      r.owner = r.repo = "o";
      r.sha = std::string(40, 'a');
      r.source = "dir";
      std::vector<batch> all{{insert_run{r, "key" + std::to_string(n), ""}}};
      if (n < 3)
        all.push_back({put_attempt{r.id, 1, n, "runner"},
                       set_run{r.id, run_state::running, 1, n, {}, ""},
                       event{r.id, 0, n, "queue", "offered", {}},
                       event{r.id, 1, n, "lease", "accepted", {{"attempts_max", 5}}},
                       event{r.id, 1, n, "attempt", "started", {}},
                       append_chunk{r.id, 1, n, 1, domain::stream::out, std::string(300, 'x')}});
      if (n == 1)
        all.push_back({end_attempt{r.id, n, verdict::passed, "", {}},
                       set_run{r.id, run_state::done, 1, 0, verdict::passed, ""},
                       event{r.id,
                             1,
                             n,
                             "attempt",
                             "ended",
                             {{"state", "done"}, {"verdict", "passed"}, {"chunks", 1}}}});
      ok(db->commit(all));
    }
    if (in_log) db->abandon();
  }
  std::pair<std::string, std::string> out{ok(read_file(path)),
                                          in_log ? ok(read_file(path + wal)) : ""};
  for (const auto* side : {"", "-wal", "-shm"}) std::filesystem::remove(path + side);
  return out;
}

void clear(const std::string& path) {
  for (const auto* side : {"", "-wal", "-shm"}) std::filesystem::remove_all(path + side);
}

/// All that an operator may do with a file in the place of a journal.
void use(const test::scratch& dir, const std::string& file, const std::string& log) {
  const auto path = dir / "j", saved = dir / "saved", copy = dir / "copy";
  for (const auto& one : {path, saved, copy}) clear(one);
  (void)dir.file("j", file);
  if (!log.empty()) (void)dir.file("j" + wal, log);

  const auto found = check_file(path);
  ASSERT_TRUE(found || !found.error().message.empty());
  const auto backed = backup_file(path, copy);
  ASSERT_EQ(backed.has_value(), std::filesystem::exists(copy));
  const auto got = salvage_file(path, saved);
  ASSERT_EQ(got.has_value(), std::filesystem::exists(saved));
  ASSERT_FALSE(std::filesystem::exists(saved + ".part"));
  if (got) {
    const auto judged = ok(check_file(saved));
    ASSERT_EQ(judged.count, 0u) << judged.findings.front();
  }
  ASSERT_EQ(ok(read_file(path)), file) << "looking at a file changed it";
  ASSERT_TRUE(log.empty() || ok(read_file(path + wal)) == log) << "looking at a log changed it";

  // The last: a dispatcher that starts on it may write.
  const auto db = journal_sqlite::open(path, sqlite::role::writer);
  if (!db) {
    ASSERT_FALSE(db.error().message.empty());
    return;
  }
  queue_place place;
  (void)(*db)->leased_runs();
  (void)(*db)->queued_runs(place, 10);
  (void)(*db)->highest_token();
  (void)(*db)->counts();
  (void)(*db)->runs({});
  if (const auto ids = (*db)->run_ids("", 10))
    for (const auto& id : *ids) {
      (void)(*db)->show(id);
      (void)(*db)->why(id);
      (void)(*db)->logs({id}, 1u << 20);
    }
}

}  // namespace

TEST(fuzz_journal, files) {
  const test::scratch dir;
  const auto [file, log] = make_journal(dir, false);
  fuzz(
      "none", {file}, [&](const std::string& input) { use(dir, input, ""); }, 40);
}

/// Bytes in the middle of pages, where the lengths of all else stay.
TEST(fuzz_journal, pages) {
  const test::scratch dir;
  const auto [file, log] = make_journal(dir, false);
  test::seeded s;
  for (std::size_t i = 0; i < test::rounds() / 40; ++i) {
    auto input = file;
    for (std::uint64_t n = 0, count = 1 + s.random.below(8); n < count; ++n)
      input[s.random.below(input.size())] = static_cast<char>(s.random.below(256));
    use(dir, input, "");
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(fuzz_journal, logs) {
  const test::scratch dir;
  const auto [file, log] = make_journal(dir, true);
  ASSERT_FALSE(log.empty());
  fuzz(
      "none", {log, "garbage", std::string(8192, '\0')},
      [&, file = file](const std::string& input) { use(dir, file, input); }, 40);
}

TEST(fuzz_journal, that_are_none) {
  const test::scratch dir;
  const std::string magic{"SQLite format 3\0", 16};
  for (const auto& file :
       {std::string{}, std::string{"x"}, magic, magic + std::string(84, '\xff'),
        std::string{"PK\x03\x04"} + std::string(5000, 'z'), std::string(100'000, '\0'),
        std::string{"\x1f\x8b\x08"} + std::string(4096, 'g')}) {
    SCOPED_TRACE(file.substr(0, 8));
    clear(dir / "none");
    (void)dir.file("none", file);
    EXPECT_NE(code_of(salvage_file(dir / "none", dir / "again")), ec::none);
    EXPECT_NE(code_of(compact_file(dir / "none")), ec::none);
    EXPECT_EQ(ok(read_file(dir / "none")), file);
    use(dir, file, "");
    EXPECT_TRUE(file.empty() || ok(read_file(dir / "j")) == file) << "a start wrote to it";
  }
  std::filesystem::create_directory(dir / "folder");
  EXPECT_TRUE(!check_file(dir / "folder") || ok(check_file(dir / "folder")).count != 0);
  EXPECT_NE(code_of(salvage_file(dir / "folder", dir / "x")), ec::none);
  EXPECT_NE(code_of(journal_sqlite::open(dir / "folder", sqlite::role::writer)), ec::none);
}
