#pragma once
// Holds what the journal has of one run, its story line by line and its rows in the tables, against
// the safety invariants of docs/simulator.md that can be read off them. Pure.
#include <string>
#include <vector>

#include "actors/journal/journal_types.hpp"

namespace ntrace::journal {

struct numbered_event {
  std::int64_t id = 0;  ///< Rises in the order of the commits.
  event what;
};

/// One run in one snapshot of the journal.
struct story {
  struct attempt {
    std::uint64_t token = 0;
    std::uint64_t chunks = 0, last_chunk = 0;  ///< Stored: how many, and the highest number.
  };
  std::string run;
  bool has_row = false;
  run_state state = run_state::queued;  ///< As the table says.
  std::uint64_t token = 0;
  std::string verdict, reason;
  std::vector<attempt> attempts;
  std::uint64_t stray_chunks = 0;  ///< Of tokens that no attempt of the run has.
  std::vector<numbered_event> events;
  bool is_whole = true;  ///< False: there are more lines than are read.
};

struct broken_rule {
  std::string invariant;  ///< "S4" …
  std::string run, what;
};

struct story_rules {
  std::uint64_t attempts_max = 5;
  /// Lines up to this one were written before these rules were known to hold: by another
  /// configuration, or for chunks that retention may have taken since.
  std::int64_t after = 0;
};

std::vector<broken_rule> check_story(const story& s, const story_rules& rules);

}  // namespace ntrace::journal
