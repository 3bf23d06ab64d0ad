// Holds all that a journal's file has against what must be true of it.
#include "actors/journal/journal_file.hpp"
#include "actors/journal/journal_raw.hpp"
#include "actors/journal/journal_sqlite.hpp"
#include "actors/journal/schema.hpp"
#include "actors/journal/story_check.hpp"

namespace ntrace::journal {
namespace {

using namespace raw;

constexpr std::size_t findings_max = 100;
constexpr std::size_t lines_per_page = 1000, runs_per_page = 1000;

/// Rules that no single run's story shows, each as a query whose rows are sentences. Sorting spills
/// to SQLite's temporary files, so a long journal needs no more memory than a short one.
constexpr const char* rules[] = {
    "select 'run ' || min(id) || ' and run ' || max(id) || ' have one key, ' || key || ' (S3)' "
    "from run where key is not null group by key having count(*) > 1",
    "select 'run ' || run || ': its story is told, the run is not there (S1)' from event "
    "where what<>'push_refused' and run not in (select id from run) group by run",
    "select 'run ' || event.run || ': token ' || event.token || ' was accepted as attempt ' || "
    "event.attempt || ', and is kept as attempt ' || attempt.number || ' (S13)' from event "
    "join attempt on attempt.token=event.token and attempt.run=event.run "
    "where event.what='accepted' and event.attempt<>attempt.number"};
constexpr const char* document_rule =
    "select 'document ' || id || ' is of token ' || token || ', which no attempt has (S8)' "
    "from doc where token not in (select token from attempt)";
constexpr const char* number_rules[] = {
    "select 'run ' || min(id) || ' and run ' || max(id) || ' have one number, ' || journal_seq || "
    "' (S21)' from run where journal_seq<>0 group by journal_seq having count(*) > 1",
    "select 'run ' || run.id || ' has number ' || journal_seq || ', and so has a line of run ' || "
    "event.run || ' (S21)' from run join event on event.id=run.journal_seq",
    "select 'run ' || id || ' has number ' || journal_seq || ', and the count is at ' || n || "
    "': numbers would be given twice (S21)' from run, "
    "(select coalesce(max(seq), 0) as n from sqlite_sequence where name='event') "
    "where journal_seq > n and state<>'queued'"};
constexpr const char* counter_rule =
    "select 'the count of numbers is at ' || n || ', and a line has ' || last || "
    "': numbers would be given twice (S21)' from "
    "(select coalesce(max(seq), 0) as n from sqlite_sequence where name='event'), "
    "(select coalesce(max(id), 0) as last from event) where last > n";
constexpr const char* token_rule =
    "select 'run ' || run || ' has token ' || token || ', and no attempt one so high: tokens would "
    "be given twice (S5)' from (select id as run, token from run union all "
    "select run, max(token) from chunk) where token > "
    "(select coalesce(max(token), 0) from attempt)";

class judge {
public:
  explicit judge(checked& out) : out_{out} {}

  void add(std::string finding) {
    ++out_.count;
    if (out_.findings.size() < findings_max) out_.findings.push_back(std::move(finding));
  }
  void add(const broken_rule& b) {
    add((b.run.empty() ? "" : "run " + b.run + ": ") + b.what + " (" + b.invariant + ")");
  }

  /// Adds the first column of each row; false when the query broke off.
  bool collect(sqlite3* db, const char* sql) {
    const auto s = prepare(db, sql);
    if (!s) return false;
    int code = SQLITE_ERROR;
    while ((code = sqlite3_step(s.get())) == SQLITE_ROW)
      if (auto line = text_of(s.get(), 0); line != "ok") add(std::move(line));
    return code == SQLITE_DONE;
  }

  /// Tokens rise from one offer to the next, whichever run it is of. What came before a salvage may
  /// have broken that.
  result<void> hold_offers(journal_sqlite& db, std::int64_t since) {
    token_order order;
    const auto highest = db.highest_token();
    if (!highest) return fail(highest.error());
    auto too_high = *highest;
    for (std::int64_t at = 0;;) {
      const auto page = db.news_after(at, lines_per_page);
      if (!page) return fail(page.error());
      for (const auto& one : page->offers)
        if (one.line > since)
          if (const auto broken = order.on_offered(one.run, one.token)) add(*broken);
      too_high = std::max(too_high, page->highest_token);
      at = page->last_event;
      if (page->lines < lines_per_page) break;
    }
    // What was offered meanwhile has its attempt by now.
    const auto now = db.highest_token();
    if (!now) return fail(now.error());
    if (too_high > *now)
      add("a line has token " + std::to_string(too_high) +
          ", and no attempt one so high: tokens would be given twice (S5)");
    return {};
  }

  result<void> hold_runs(journal_sqlite& db, const story_rules& known) {
    std::string last;
    for (;;) {
      const auto ids = db.run_ids(last, runs_per_page);
      if (!ids) return fail(ids.error());
      for (const auto& id : *ids) {
        const auto judged = db.judge_run(id, known, SIZE_MAX);
        if (!judged) return fail(judged.error());
        if (!judged->is_kept) continue;  // Its retention was over just now.
        ++out_.runs;
        for (const auto& broken : judged->broken) add(broken);
        out_.count += judged->count - judged->broken.size();
      }
      if (ids->size() < runs_per_page) return {};
      last = ids->back();
    }
  }

private:
  checked& out_;
};

}  // namespace

result<checked> check_file(const std::string& path) {
  auto db = open_existing(path);
  if (!db) return fail(db.error());
  checked out;
  judge all{out};
  const bool reads =
      all.collect(db->get(), "pragma integrity_check(100)") &&
      all.collect(db->get(),
                  "select 'a row of ' || \"table\" || ' refers to a run that is not there' "
                  "from pragma_foreign_key_check");
  if (!reads) all.add(sqlite::failure(db->get(), journal_kind(), "read", path).message);
  // What its rules say of damaged pages is no news.
  if (out.count != 0) return out;
  const auto failed = [&] {
    return fail(sqlite::failure(db->get(), journal_kind(), "check", path));
  };
  for (const auto* rule : rules)
    if (!all.collect(db->get(), rule)) return failed();
  if (!all.collect(db->get(), counter_rule) || !all.collect(db->get(), token_rule)) return failed();
  auto reader = journal_sqlite::open(path, sqlite::role::reader);
  if (!reader) return fail(reader.error());
  if ((*reader)->schema() > schema_version)
    return fail(ec::journal_schema, path +
                                        " was written by a newer ntrace, whose rules are not "
                                        "known here; upgrade ntrace");
  const auto lost = (*reader)->last_lost_story();
  if (!lost) return fail(lost.error());
  // An older ntrace's journal has no documents, or its pushes no numbers.
  if ((*reader)->schema() >= schema_with_documents && !all.collect(db->get(), document_rule))
    return failed();
  if ((*reader)->schema() >= schema_with_numbers)
    for (const auto* rule : number_rules)
      if (!all.collect(db->get(), rule)) return failed();
  if (auto held = all.hold_offers(**reader, *lost); !held) return fail(held.error());
  if (auto held = all.hold_runs(**reader, {}); !held) return fail(held.error());
  return out;
}

}  // namespace ntrace::journal
