#pragma once
// Journals of a few runs, and pages of them that are damaged for real.
#include <gtest/gtest.h>

#include <fstream>

#include "actors/journal/journal_file.hpp"
#include "actors/journal/journal_sqlite.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/scratch.hpp"

namespace ntrace::test {

using namespace journal;

inline constexpr int page_bytes = 4096;  // SQLite's default

inline std::string id_of(int n) {
  auto digits = std::to_string(n);
  return "01M876B6J4KZP9X4YQ" + std::string(8 - digits.size(), '0') + digits;
}

inline batch push_of(int n) {
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
inline void fill(const std::string& path, int runs) {
  auto db = ok(journal_sqlite::open(path, sqlite::role::writer));
  for (int n = 1; n <= runs; ++n) {
    const auto id = id_of(n);
    const auto token = static_cast<std::uint64_t>(n);
    std::vector<batch> all{push_of(n)};
    all.push_back({put_attempt{id, 1, token, "runner"},
                   set_run{id, run_state::running, 1, token, {}, ""},
                   event{id, 0, token, "queue", "offered", {}},
                   event{id, 1, token, "lease", "accepted", {{"attempts_max", 5}}},
                   event{id, 1, token, "attempt", "started", {}}});
    for (std::uint64_t seq = 1; seq <= 3; ++seq)
      all.push_back({append_chunk{id, 1, token, seq, domain::stream::out, std::string(400, 'x')}});
    if (n < runs)
      all.push_back({end_attempt{id, token, verdict::passed, "", {}},
                     set_run{id, run_state::done, 1, 0, verdict::passed, ""},
                     event{id,
                           1,
                           token,
                           "attempt",
                           "ended",
                           {{"state", "done"}, {"verdict", "passed"}, {"chunks", 3}}}});
    ok(db->commit(all));
  }
}

inline void damage(const std::string& path, std::uint64_t page) {
  std::fstream file{path, std::ios::in | std::ios::out | std::ios::binary};
  file.seekp(static_cast<std::streamoff>(page * page_bytes));
  file << std::string(page_bytes, '\x5a');
}

inline std::vector<std::string> findings_in(const std::string& path) {
  auto found = ok(check_file(path));
  EXPECT_EQ(found.count, found.findings.size());
  return std::move(found.findings);
}

}  // namespace ntrace::test
