// What the monitor reads: which runs have changed, and the whole story of one.
#include <algorithm>

#include "actors/journal/run_columns.hpp"
#include "actors/journal/schema.hpp"
#include "actors/journal/story_check.hpp"
#include "config/json_parse.hpp"

namespace ntrace::journal {

result<std::int64_t> journal_sqlite::last_event() {
  return pragma("select coalesce(max(seq),0) from sqlite_sequence where name='event'");
}

result<news> journal_sqlite::news_after(std::int64_t event, std::size_t lines_max) {
  news out;
  out.last_event = event;
  auto read =
      statement{*db_, "select id, run, token, what from event where id>? order by id limit ?"}
          .bind(event)
          .bind(lines_max)
          .each([&](const statement& s) {
            out.last_event = s.number(0);
            ++out.lines;
            const auto what = s.text(3);
            out.highest_token = std::max(out.highest_token, s.count(2));
            if (is_offer(what)) out.offers.push_back({out.last_event, s.text(1), s.count(2)});
            if (what != "push_refused") out.runs.insert(s.text(1));
          });
  if (!read) return fail(read.error());
  return out;
}

result<judgement> journal_sqlite::judge_run(const std::string& run, const story_rules& rules,
                                            std::size_t lines_max) {
  if (auto begun = statement{*db_, "begin"}.done(); !begun) return fail(begun.error());
  auto judged = judge(run, rules, lines_max);
  auto ended = statement{*db_, "commit"}.done();
  if (judged && !ended) return fail(ended.error());
  return judged;
}

result<void> journal_sqlite::read_rows(story& out) {
  // A journal that an older ntrace wrote may be read, and lacks the numbers of pushes, or outages.
  const char* sql = schema_ >= schema_with_numbers
                        ? "select state, token, verdict, reason, attempts, "
                          "exists(select 1 from flag where name='deleting '||id), "
                          "journal_seq from run where id=?"
                        : "select state, token, verdict, reason, attempts, 0, 0 "
                          "from run where id=?";
  statement row{*db_, sql};
  auto found = row.bind(out.run).step();
  if (!found) return fail(found.error());
  out.has_row = *found;
  if (*found) {
    out.state = domain::run_state_from(row.text(0));
    out.token = row.count(1);
    out.verdict = row.text(2);
    out.reason = row.text(3);
    out.attempts_begun = row.count(4);
    out.is_being_deleted = row.count(5) != 0;
    out.pushed_seq = row.number(6);
  }
  if (schema_ >= schema_with_outages) {
    statement met{*db_, "select coalesce(sum(total), 0) from outage where run=?"};
    if (auto summed = met.bind(out.run).step(); !summed) return fail(summed.error());
    out.outages = met.count(0);
  }
  auto read =
      statement{*db_,
                "select token, (select count(*) from chunk where chunk.token=attempt.token),"
                " (select coalesce(max(seq),0) from chunk where chunk.token=attempt.token), "
                "verdict, runner='salvage' from attempt where run=? order by token"}
          .bind(out.run)
          .each([&](const statement& s) {
            out.attempts.push_back(
                {s.count(0), s.count(1), s.count(2), s.text(3), s.count(4) != 0});
          });
  if (!read) return read;
  statement stray{*db_,
                  "select count(*) from chunk where run=? and token not in "
                  "(select token from attempt where attempt.run=chunk.run)"};
  auto counted = stray.bind(out.run).step();
  if (!counted) return fail(counted.error());
  out.stray_chunks = stray.count(0);
  return {};
}

/// Line by line: a run may have more of them than fit into memory.
result<judgement> journal_sqlite::judge(const std::string& run, const story_rules& rules,
                                        std::size_t lines_max) {
  story rows;
  rows.run = run;
  if (auto read = read_rows(rows); !read) return fail(read.error());
  story_checker checker{rows, rules};
  statement s{*db_,
              "select id, attempt, token, actor, what, detail from event where run=? order by id"};
  s.bind(run);
  for (std::size_t lines = 0;; ++lines) {
    auto line = s.step();
    if (!line) return fail(line.error());
    if (!*line) return checker.finish();
    if (lines == lines_max) {
      judgement out;
      out.is_kept = out.has_story = true;
      out.is_whole = false;
      return out;
    }
    checker.on({s.number(0),
                {run, s.count(1), s.count(2), s.text(3), s.text(4), parse_or_discard(s.text(5))}});
  }
}

result<std::int64_t> journal_sqlite::last_lost_story() {
  return pragma("select coalesce(max(id),0) from event where what='story_lost'");
}

result<std::vector<std::string>> journal_sqlite::run_ids(const std::string& after,
                                                         std::size_t limit) {
  std::vector<std::string> out;
  auto read = statement{*db_, "select id from run where id>? order by id limit ?"}
                  .bind(after)
                  .bind(limit)
                  .each([&](const statement& s) { out.push_back(s.text(0)); });
  if (!read) return fail(read.error());
  return out;
}

}  // namespace ntrace::journal
