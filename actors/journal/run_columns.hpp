#pragma once
// What the parts of journal_sqlite use in their queries.
#include "actors/journal/journal_sqlite.hpp"

#define NTRACE_RUN_COLUMNS \
  "id, owner, repo, sha, source, priority, state, attempts, token, created_ms, deadline_ms"
/// As the index run_ended says it: only in these words is it used. A list of more than two would be
/// made a table, at each write of a run.
#define NTRACE_RUN_HAS_ENDED \
  "(state='done' or state='failed' or state='quarantined' or state='cancelled')"

/// Behind NTRACE_RUN_COLUMNS and what else is selected, from NTRACE_RUN_WITH_OUTAGE.
#define NTRACE_OUTAGE_COLUMNS \
  "outage.total, tries, host, cause, message, waited_ms, wait_ms, since_ms, at_ms"
#define NTRACE_RUN_WITH_OUTAGE "run left join outage on outage.run=run.id"

namespace ntrace::journal {

using sqlite::statement;

/// Selected as NTRACE_OUTAGE_COLUMNS from column `at` on; null when the run met none.
inline domain::outage_record_ptr read_outages(const auto& s, int at) {
  if (s.count(at) == 0) return nullptr;
  auto r = std::make_shared<domain::outage_record>();
  r->total = s.count(at);
  r->tries = s.count(at + 1);
  r->last.host = s.text(at + 2);
  r->last.cause = outage_cause_from(s.text(at + 3)).value_or(outage_cause::silent);
  r->last.message = s.text(at + 4);
  r->waited = milliseconds{s.number(at + 5)};
  r->wait = milliseconds{s.number(at + 6)};
  r->since_ms = s.number(at + 7);
  r->at_ms = s.number(at + 8);
  return r;
}

/// A row that was selected as NTRACE_RUN_COLUMNS.
inline run_row read_run(const auto& s) {
  run_row r;
  r.id = s.text(0);
  r.owner = s.text(1);
  r.repo = s.text(2);
  r.sha = s.text(3);
  r.source = s.text(4);
  r.priority = s.number(5);
  r.state = domain::run_state_from(s.text(6));
  r.attempts = s.count(7);
  r.token = s.count(8);
  r.created_ms = s.number(9);
  r.deadline_ms = s.number(10);
  return r;
}

}  // namespace ntrace::journal
