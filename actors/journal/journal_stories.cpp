// What the monitor reads: which runs have changed, and the whole story of one.
#include "actors/journal/run_columns.hpp"
#include "actors/journal/story_check.hpp"

namespace ntrace::journal {
namespace {

/// Far more than any run of a sound fleet has.
constexpr std::size_t story_lines_max = 20'000;

}  // namespace

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
            if (what == "offered" || what == "handed") out.tokens.push_back(s.count(2));
            if (what != push_refused) out.runs.insert(s.text(1));
          });
  if (!read) return fail(read.error());
  return out;
}

result<story> journal_sqlite::story_of(const std::string& run) {
  story out;
  out.run = run;
  if (auto begun = statement{*db_, "begin"}.done(); !begun) return fail(begun.error());
  auto read = read_story(out);
  auto ended = statement{*db_, "commit"}.done();
  if (!read) return fail(read.error());
  if (!ended) return fail(ended.error());
  return out;
}

result<void> journal_sqlite::read_story(story& out) {
  statement row{*db_, "select state, token, verdict, reason from run where id=?"};
  auto found = row.bind(out.run).step();
  if (!found) return fail(found.error());
  out.has_row = *found;
  if (*found) {
    out.state = dispatcher::run_state_from(row.text(0));
    out.token = row.count(1);
    out.verdict = row.text(2);
    out.reason = row.text(3);
  }
  auto read =
      statement{*db_,
                "select token, (select count(*) from chunk where chunk.token=attempt.token),"
                " (select coalesce(max(seq),0) from chunk where chunk.token=attempt.token) "
                "from attempt where run=? order by token"}
          .bind(out.run)
          .each([&](const statement& s) {
            out.attempts.push_back({s.count(0), s.count(1), s.count(2)});
          });
  if (!read) return read;
  statement stray{*db_,
                  "select count(*) from chunk where run=? and token not in "
                  "(select token from attempt where attempt.run=chunk.run)"};
  auto counted = stray.bind(out.run).step();
  if (!counted) return fail(counted.error());
  out.stray_chunks = stray.count(0);
  auto lines = statement{*db_,
                         "select id, attempt, token, actor, what, detail from event where run=? "
                         "order by id limit ?"}
                   .bind(out.run)
                   .bind(story_lines_max)
                   .each([&](const statement& s) {
                     out.events.push_back({s.number(0),
                                           {out.run, s.count(1), s.count(2), s.text(3), s.text(4),
                                            nlohmann::json::parse(s.text(5), nullptr, false)}});
                   });
  out.is_whole = out.events.size() < story_lines_max;
  return lines;
}

}  // namespace ntrace::journal
