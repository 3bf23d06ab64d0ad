#pragma once
// What an operator does with a journal's file: check it, copy it while it is in use, and save from
// a damaged one what can still be read. Only compact_file changes the file itself.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "config/result.hpp"

namespace ntrace::journal {

struct checked {
  std::vector<std::string>
      findings;             ///< What is wrong, in sentences that name the run; the first 100.
  std::uint64_t count = 0;  ///< How much is.
  std::uint64_t runs = 0;   ///< How many were held against the rules.
};
/// Looks at every page and reference of the journal at `path`, and holds each run that it has
/// against the rules of story_check, as the live monitor does, and all of them together against
/// those that no single run shows. Safe while a dispatcher uses it: it is read in short
/// transactions, one for each run. Needs memory for one run's attempts. ec::not_found,
/// journal_failed.
result<checked> check_file(const std::string& path);

/// Copies a whole and consistent journal to `to`, which must not exist, while it may be in use: one
/// snapshot, found without a fault unless it is wanted `as_is`, then synced and put in place at
/// once. ec::bad_argument when `to` is there, journal_corrupt, journal_full or journal_failed; then
/// nothing is left.
result<void> backup_file(const std::string& path, const std::string& to, bool as_is = false);

/// Makes the file as small as it can be, and able to give back what becomes free later; it keeps
/// others from writing meanwhile. Gives its bytes before and after. ec::journal_failed when it is
/// in use, journal_full when the copy that this needs does not fit.
result<std::pair<std::uintmax_t, std::uintmax_t>> compact_file(const std::string& path);

struct salvaged {
  std::size_t runs = 0, attempts = 0, chunks = 0, events = 0;  ///< In the new journal.
  std::size_t unreadable = 0;          ///< Places where rows could not be read.
  std::size_t requeued = 0;            ///< Runs that were under way: they begin anew.
  std::size_t stories_lost = 0;        ///< Runs whose lines were incomplete or broke a rule.
  std::vector<std::string> lost_runs;  ///< Known from other tables, not readable any more.
};
/// Writes what can be read of a damaged journal to a new one at `to`, which must not exist. Runs
/// that were under way are queued again; what follows a gap in an attempt's chunks is dropped, so
/// that the new journal keeps every rule; a run whose story breaks one is told from there on; the
/// fencing token goes on from the highest one seen. ec::journal_corrupt when nothing can be read.
result<salvaged> salvage_file(const std::string& path, const std::string& to);

}  // namespace ntrace::journal
