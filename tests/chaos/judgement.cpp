#include "tests/chaos/judgement.hpp"

#include <poll.h>

#include <map>

#include "config/sqlite.hpp"
#include "tests/support/journal_history.hpp"
#include "tests/support/leftovers.hpp"

namespace ntrace::chaos {
namespace {

using nlohmann::json;

constexpr milliseconds look{100}, stop_max{40'000}, reap_max{15'000};

std::string leftovers(fleet& all) {
  std::string out;
  for (std::size_t i = 1; i < fleet::nodes; ++i) out += test::leftovers(all.data(i));
  return out;
}

struct end_of_run {
  std::string state, verdict, reason, runner;
};

/// A consumer of the old protocol says of each job that it went well.
bool is_right(const end_of_run& seen, job what, bool is_unwanted) {
  if (is_unwanted && seen.state == "cancelled") return true;
  if (what == job::fails && !seen.runner.starts_with("consumer"))
    return seen.state == "failed" && seen.verdict == "script_failed";
  return seen.state == "done" && seen.verdict == "passed";
}

}  // namespace

void wait(milliseconds time) { ::poll(nullptr, 0, static_cast<int>(time.count())); }

milliseconds since(time_point began) {
  return std::chrono::duration_cast<milliseconds>(steady_clock::now() - began);
}

result<std::uint64_t> count(const std::string& path, const char* query) {
  auto db = sqlite::connection::open({path, ""}, path, sqlite::role::reader, {});
  if (!db) return fail(db.error());
  sqlite::statement s{**db, query};
  const auto row = s.step();
  if (!row) return fail(row.error());
  return *row ? s.count(0) : 0;
}

void judgement::judge_processes(fleet& all, bool is_done) {
  for (std::size_t i = fleet::nodes; i-- > 0;)
    if (!is_done)
      all.server(i).kill();
    else if (const int code = all.server(i).stop(stop_max); code != 0)
      add("stop",
          all.server(i).name() + " ended with " + std::to_string(code) + " when it was asked to");
  for (std::size_t i = 0; i < fleet::nodes; ++i)
    for (const char* word : {"invariant.violated", "ntrace: defect"}) {
      const auto log = read_file(all.server(i).log(), 256u << 20).value_or("");
      if (const auto at = log.find(word); at != std::string::npos)
        add("log", all.server(i).name() + ": " + log.substr(at, log.find('\n', at) - at));
    }
  // The helper of a killed runner ends its zones by itself.
  const auto asked = steady_clock::now();
  auto left = leftovers(all);
  for (; !left.empty() && since(asked) < reap_max; left = leftovers(all)) wait(look);
  if (!left.empty()) add("leftovers", left);
}

void judgement::judge(fleet& all, const load& pushes, json& figures) {
  const auto journal = all.data(0) + "/journal.sqlite";
  judge_history(all, pushes, figures);
  judge_ends(journal, pushes);
  const auto verdicts = count(journal,
                              "select count(*) from run where state in "
                              "('done','failed','quarantined','cancelled')");
  const auto attempts = count(journal, "select count(*) from attempt");
  const auto outages = count(journal, "select coalesce(sum(total), 0) from outage");
  if (!verdicts || !attempts || !outages) return add("journal", "it cannot be counted");
  figures["verdicts"] = *verdicts;
  figures["outages"] = *outages;
  const auto expected = *verdicts + *outages;
  figures["retries"] = *attempts > expected ? *attempts - expected : 0;
  if (*verdicts < pushes.acknowledged().size())
    add("pushes", std::to_string(pushes.acknowledged().size()) + " were acknowledged, and " +
                      std::to_string(*verdicts) + " have a verdict");
}

void judgement::judge_history(fleet& all, const load& pushes, json& figures) {
  const auto history = test::journal_history(all.data(0) + "/journal.sqlite");
  if (!history) return add("journal", to_string(history.error()));
  test::check_options options;
  options.attempts = fleet::attempts_max;
  options.chunks_name_tokens = false;
  test::invariant_checker checker{options};
  for (const auto& f : *history) checker.on(f);
  test::fact told;
  told.kind = test::fact_kind::acked;
  for (const auto& push : pushes.acknowledged()) {
    told.run = push.run;
    told.text = push.key;
    checker.on(told);
  }
  told.kind = test::fact_kind::cancel_acked;
  for (const auto& run : pushes.cancelled()) {
    told.run = run;
    checker.on(told);
  }
  told.kind = test::fact_kind::finished;
  std::uint64_t held = 0;
  for (std::size_t i = 1; i < fleet::nodes; ++i)
    held += count(all.data(i) + "/outbox.sqlite", "select count(*) from attempt").value_or(1);
  told.n = {held, 0, 0, 0, 0, pushes.unanswered().size()};
  checker.on(told);
  for (const auto& v : checker.violations()) add(v.invariant, v.what);
  figures["met"] = checker.met();
}

/// Whatever a run met on its way, it ends as its script does.
void judgement::judge_ends(const std::string& journal, const load& pushes) {
  std::map<std::string, end_of_run> ends;
  auto db = sqlite::connection::open({journal, ""}, journal, sqlite::role::reader, {});
  auto read = db ? result<void>{} : fail(db.error());
  if (read)
    read = sqlite::statement{**db,
                             "select id, state, verdict, reason, coalesce((select runner from "
                             "attempt where attempt.run=run.id order by token desc limit 1), '') "
                             "from run"}
               .each([&](const sqlite::statement& row) {
                 ends[row.text(0)] = {row.text(1), row.text(2), row.text(3), row.text(4)};
               });
  if (!read) return add("journal", to_string(read.error()));
  for (const auto& push : pushes.acknowledged()) {
    const auto& end = ends[push.run];
    if (!is_right(end, push.what, pushes.unwanted().count(push.run) != 0))
      add("verdict", "run " + push.run + ", whose script " +
                         (push.what == job::fails ? "fails" : "passes") + ", is " + end.state +
                         " with the verdict \"" + end.verdict + "\" by " + end.runner + ": " +
                         end.reason);
  }
}

}  // namespace ntrace::chaos
