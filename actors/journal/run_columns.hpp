#pragma once
// What the parts of journal_sqlite use in their queries.
#include "actors/journal/journal_sqlite.hpp"

#define NTRACE_RUN_COLUMNS \
  "id, owner, repo, sha, source, priority, state, attempts, token, created_ms, deadline_ms"
/// As the index run_ended says it: only in these words is it used. A list of more than two would be
/// made a table, at each write of a run.
#define NTRACE_RUN_HAS_ENDED \
  "(state='done' or state='failed' or state='quarantined' or state='cancelled')"

namespace ntrace::journal {

using sqlite::statement;

/// A row that was selected as NTRACE_RUN_COLUMNS.
inline run_row read_run(const auto& s) {
  run_row r;
  r.id = s.text(0);
  r.owner = s.text(1);
  r.repo = s.text(2);
  r.sha = s.text(3);
  r.source = s.text(4);
  r.priority = s.number(5);
  r.state = dispatcher::run_state_from(s.text(6));
  r.attempts = s.count(7);
  r.token = s.count(8);
  r.created_ms = s.number(9);
  r.deadline_ms = s.number(10);
  return r;
}

}  // namespace ntrace::journal
