#pragma once
// All runs of a journal that are not terminal, oldest first.
#include <algorithm>

#include "actors/journal/journal_sqlite.hpp"
#include "tests/support/ok.hpp"

namespace ntrace::test {

inline std::vector<journal::run_row> open_runs(journal::journal_sqlite& db) {
  auto out = ok(db.leased_runs());
  journal::queue_place place;
  const auto queued = ok(db.queued_runs(place, 1u << 20));
  out.insert(out.end(), queued.begin(), queued.end());
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) {
    return std::pair{a.created_ms, a.id} < std::pair{b.created_ms, b.id};
  });
  return out;
}

}  // namespace ntrace::test
