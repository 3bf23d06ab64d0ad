#include "tests/support/journal_history.hpp"

#include "actors/journal/journal_kind.hpp"
#include "actors/journal/run_columns.hpp"
#include "actors/journal/story_check.hpp"
#include "tests/support/open_runs.hpp"

namespace ntrace::test {
namespace {

using domain::run_state;
using nlohmann::json;
using sqlite::statement;

class teller {
public:
  explicit teller(sqlite::connection& db) : db_{db} {}

  result<std::vector<fact>> tell() {
    auto read = read_runs();
    if (read) read = read_chunks();
    if (read)
      read = statement{db_,
                       "select id, run, attempt, token, actor, what, detail from event order by id"}
                 .each([&](const statement& row) {
                   add_pushes(row.number(0));
                   on_event({row.text(1), row.count(2), row.count(3), row.text(4), row.text(5),
                             json::parse(row.text(6), nullptr, false)});
                 });
    if (!read) return fail(read.error());
    add_pushes(std::numeric_limits<std::int64_t>::max());
    for (const auto& [token, chunks] : std::map{chunks_}) add_chunks(token);
    read = read_outages();
    if (!read) return fail(read.error());
    return std::move(out_);
  }

private:
  result<void> read_runs() {
    return statement{db_, "select " NTRACE_RUN_COLUMNS ", key, journal_seq from run"}.each(
        [&](const statement& row) {
          auto r = journal::read_run(row);
          r.state = run_state::queued;
          r.attempts = r.token = 0;
          pushes_.emplace(row.number(12), journal::insert_run{r, row.text(11), {}});
        });
  }
  result<void> read_chunks() {
    return statement{db_, "select run, attempt, token, seq, stream from chunk order by id"}.each(
        [&](const statement& row) {
          chunks_[row.count(2)].push_back(
              {row.text(0), row.count(1), row.count(2), row.count(3),
               domain::stream_from(row.text(4)).value_or(domain::stream::out), ""});
        });
  }
  /// What the tables say at the end, beside what the lines tell.
  result<void> read_outages() {
    return statement{db_, "select id, coalesce(total, 0) from " NTRACE_RUN_WITH_OUTAGE}.each(
        [&](const statement& row) {
          fact kept;
          kept.kind = fact_kind::outages_kept;
          kept.run = row.text(0);
          kept.n = {row.count(1)};
          out_.push_back(std::move(kept));
        });
  }
  void add(journal::operation op) {
    fact f;
    f.kind = fact_kind::committed;
    f.op = std::move(op);
    out_.push_back(std::move(f));
  }
  /// Those that were numbered before `seq`.
  void add_pushes(std::int64_t seq) {
    while (!pushes_.empty() && pushes_.begin()->first < seq)
      add(pushes_.extract(pushes_.begin()).mapped());
  }
  void add_chunks(std::uint64_t token) {
    if (const auto found = chunks_.extract(token))
      for (const auto& chunk : found.mapped()) add(chunk);
  }
  void set(const journal::event& e, run_state state, std::uint64_t token,
           std::optional<journal::verdict> verdict = {}, const std::string& reason = "") {
    live_[e.run] = is_terminal(state) ? 0 : token;
    add(journal::set_run{e.run, state, e.attempt, token, verdict, reason});
  }
  void end(const journal::event& e) {
    const auto state = domain::run_state_from(e.detail.value("state", ""));
    const auto verdict = domain::verdict_from(e.detail.value("verdict", ""));
    const auto reason = e.detail.value("reason", "");
    if (e.token != 0 && live_[e.run] == e.token) {
      add_chunks(e.token);
      if (journal::met_outage(e)) {
        fact met;
        met.kind = fact_kind::outage_met;
        met.token = e.token;
        met.text = reason;
        out_.push_back(std::move(met));
        auto record = std::make_shared<domain::outage_record>();
        record->total = ++outages_[e.run];
        add(journal::set_outages{e.run, record});
      }
      add(journal::end_attempt{
          e.run, e.token, verdict.value_or(journal::verdict::infrastructure), reason, {}});
    }
    set(e, state, 0, is_terminal(state) ? verdict : std::nullopt, reason);
  }
  void on_event(const journal::event& e) {
    if (e.what == "offered" || e.what == "handed") {
      add(journal::put_attempt{e.run, e.attempt + 1, e.token, ""});
      set(e, run_state::queued, e.token);
    } else if (e.what == "accepted") {
      set(e, run_state::leased, e.token);
    } else if (e.what == "started") {
      set(e, run_state::running, e.token);
    } else if (e.what == "revived") {
      live_[e.run] = e.token;
      add(journal::revive{e.run, e.token});
    } else if (e.what == "attempt_ended" || e.what == "ended") {
      end(e);
    } else if (e.what == "cancelled") {
      set(e, run_state::cancelled, 0);
    } else if (e.what == "requeued") {
      set(e, run_state::queued, 0);
      outages_.erase(e.run);
      add(journal::set_outages{e.run, nullptr});
    }
    add(e);
  }

  sqlite::connection& db_;
  std::multimap<std::int64_t, journal::insert_run> pushes_;  ///< By their number.
  std::map<std::string, std::uint64_t> live_, outages_;
  std::map<std::uint64_t, std::vector<journal::append_chunk>> chunks_;
  std::vector<fact> out_;
};

}  // namespace

result<std::vector<fact>> journal_history(const std::string& path) {
  auto db = sqlite::connection::open(journal::journal_kind(), path, sqlite::role::reader, {});
  if (!db) return fail(db.error());
  auto out = teller{**db}.tell();
  if (!out) return out;
  auto journal = journal::journal_sqlite::open(path, sqlite::role::reader);
  if (!journal) return fail(journal.error());
  fact end;
  end.kind = fact_kind::recovered;
  end.runs = open_runs(**journal);
  out->push_back(std::move(end));
  return out;
}

}  // namespace ntrace::test
