// The journal's questions: lists, one run, its output and its story.
#include <algorithm>

#include "actors/journal/run_columns.hpp"
#include "config/ids.hpp"
#include "config/json_parse.hpp"
#include "config/outage.hpp"

namespace ntrace::journal {
namespace {

/// Attempts that count towards the limit, those that do not, and what the run waits for to come
/// back, if it does.
void add_outages(nlohmann::json& out, std::uint64_t attempts, const statement& s, int at) {
  const auto r = read_outages(s, at);
  if (out.find("attempts") == out.end()) out["attempts"] = attempts - outages_of(r);
  if (!r) return;
  out["outages"] = r->total;
  if (!r->is_on() || domain::is_terminal(domain::run_state_from(out.value("state", "")))) return;
  out["outage"] = outage_json(r->last);
  out["outage"].update({{"since_ms", r->since_ms},
                        {"tries", r->tries},
                        {"last_try_ms", r->at_ms},
                        {"next_try_ms", r->at_ms + r->wait.count()}});
}

/// Of a row that was selected as NTRACE_RUN_COLUMNS, verdict, reason, updated_ms.
nlohmann::json run_json(const statement& s) {
  const auto r = read_run(s);
  return {{"run", r.id},
          {"owner", r.owner},
          {"repo", r.repo},
          {"sha", r.sha},
          {"source", r.source},
          {"priority", r.priority},
          {"state", to_string(r.state)},
          {"created_ms", r.created_ms},
          {"deadline_ms", r.deadline_ms},
          {"verdict", s.text(11)},
          {"reason", s.text(12)},
          {"updated_ms", s.number(13)}};
}

}  // namespace

result<std::vector<run_row>> journal_sqlite::leased_runs() {
  std::vector<run_row> out;
  auto read =
      statement{
          *db_,
          "select " NTRACE_RUN_COLUMNS
          ", (select coalesce(max(seq),0) from chunk where chunk.token=run.token), "
          "(select run_id<>'' from attempt where attempt.token=run.token), " NTRACE_OUTAGE_COLUMNS
          " from " NTRACE_RUN_WITH_OUTAGE
          " where state in ('leased','running') order by journal_seq, id"}
          .each([&](const statement& s) {
            out.push_back(read_run(s));
            out.back().last_seq = s.count(11);
            out.back().is_consumers = s.count(12) != 0;
            out.back().outages = read_outages(s, 13);
          });
  if (!read) return fail(read.error());
  return out;
}

result<std::vector<run_row>> journal_sqlite::queued_runs(queue_place& place, std::size_t limit) {
  std::vector<run_row> out;
  auto read =
      statement{*db_,
                "select " NTRACE_RUN_COLUMNS
                ", case when attempts=0 then 0 else (select case when is_expired then max(token) "
                "else 0 end from attempt where attempt.run=run.id and number=run.attempts) end, "
                "journal_seq, " NTRACE_OUTAGE_COLUMNS " from " NTRACE_RUN_WITH_OUTAGE
                " where state='queued' and (journal_seq, id) > (?, ?) "
                "order by journal_seq, id limit ?"}
          .bind(place.seq)
          .bind(place.id)
          .bind(limit)
          .each([&](const statement& s) {
            out.push_back(read_run(s));
            out.back().expired_token = s.count(11);
            out.back().outages = read_outages(s, 13);
            place = {s.number(12), out.back().id};
          });
  if (!read) return fail(read.error());
  return out;
}

result<bool> journal_sqlite::flag(const std::string& name) {
  statement s{*db_, "select value from flag where name=?"};
  auto row = s.bind(name).step();
  if (!row) return fail(row.error());
  return *row && s.number(0) != 0;
}

result<std::uint64_t> journal_sqlite::highest_token() {
  statement s{*db_, "select coalesce(max(token),0) from attempt"};
  auto row = s.step();
  if (!row) return fail(row.error());
  return s.count(0);
}

#define NTRACE_PAGE_OF_RUNS                                                            \
  "select " NTRACE_RUN_COLUMNS ", verdict, reason, updated_ms, " NTRACE_OUTAGE_COLUMNS \
  " from " NTRACE_RUN_WITH_OUTAGE                                                      \
  " where (?='' or owner||'/'||repo=?) "                                               \
  "and (?='' or state=?) and id>=? and id>? and id<? order by id "

result<nlohmann::json> journal_sqlite::runs(const domain::runs_query& what) {
  const auto& [repo, state, since_ms, before, after, limit] = what;
  for (const auto& cursor : {before, after})
    if (auto checked = check_run_id(cursor); !cursor.empty() && !checked)
      return fail(checked.error());
  // Ids are made in the order of time, so that a page stays the same while new runs come in. The
  // page after a run is the oldest of the newer ones.
  const bool is_upward = !after.empty() && before.empty();
  statement s{*db_,
              is_upward ? NTRACE_PAGE_OF_RUNS "asc limit ?" : NTRACE_PAGE_OF_RUNS "desc limit ?"};
  s.bind(repo).bind(repo).bind(state).bind(state);
  s.bind(first_ulid(since_ms));
  s.bind(after).bind(before.empty() ? std::string_view{"~"}
                                    : std::string_view{before});  // "~" is behind each id.
  s.bind(limit);
  auto out = nlohmann::json::array();
  auto read = s.each([&](const statement& row) {
    out.push_back(run_json(row));
    add_outages(out.back(), row.count(7), row, 14);
  });
  if (!read) return fail(read.error());
  if (is_upward) std::reverse(out.begin(), out.end());
  return out;
}

namespace {

tl::unexpected<error> no_run(const std::string& run) {
  return fail(ec::not_found,
              "no run " + run + "; `ntrace runs` lists them. Ended runs are kept for retain_days");
}

}  // namespace

result<run_row> journal_sqlite::find(const std::string& run) {
  if (auto checked = check_run_id(run); !checked) return fail(checked.error());
  statement s{*db_, "select " NTRACE_RUN_COLUMNS " from run where id=?"};
  auto row = s.bind(run).step();
  if (!row) return fail(row.error());
  if (!*row) return no_run(run);
  return read_run(s);
}

result<nlohmann::json> journal_sqlite::show(const std::string& run) {
  if (auto checked = check_run_id(run); !checked) return fail(checked.error());
  nlohmann::json out;
  {
    statement s{*db_, "select " NTRACE_RUN_COLUMNS
                      ", verdict, reason, updated_ms, coalesce(key, id), " NTRACE_OUTAGE_COLUMNS
                      " from " NTRACE_RUN_WITH_OUTAGE " where id=?"};
    auto row = s.bind(run).step();
    if (!row) return fail(row.error());
    if (!*row) return no_run(run);
    out = run_json(s);
    out["key"] = s.text(14);
    out["attempts"] = nlohmann::json::array();
    add_outages(out, 0, s, 15);
  }
  statement s{
      *db_,
      "select number, token, runner, offered_ms, ended_ms, verdict, reason, receipt, run_id from "
      "attempt where run=? order by token"};
  auto read = s.bind(run).each([&](const statement& row) {
    nlohmann::json a{{"attempt", row.count(0)},   {"token", row.count(1)},
                     {"runner", row.text(2)},     {"offered_ms", row.number(3)},
                     {"ended_ms", row.number(4)}, {"verdict", row.text(5)},
                     {"reason", row.text(6)}};
    if (auto run_id = row.text(8); !run_id.empty()) a["run_id"] = std::move(run_id);
    if (auto receipt = parse_or_discard(row.text(7)); receipt.is_object())
      a["receipt"] = std::move(receipt);
    out["attempts"].push_back(std::move(a));
  });
  if (!read) return fail(read.error());
  return out;
}

result<nlohmann::json> journal_sqlite::logs(const domain::logs_query& what, std::size_t bytes_max) {
  const auto& [run, after, stream] = what;
  auto shown = show(run);
  if (!shown) return fail(shown.error());
  statement s{*db_,
              "select id, attempt, seq, stream, at_ms, data from chunk where run=? and id>? and "
              "(?='' or stream=?) order by id limit 1000"};
  s.bind(run).bind(after).bind(stream).bind(stream);
  nlohmann::json out{{"state", (*shown)["state"]},
                     {"verdict", (*shown)["verdict"]},
                     {"reason", (*shown)["reason"]},
                     {"chunks", nlohmann::json::array()},
                     {"next", after},
                     {"more", false}};
  if (shown->contains("outage")) out["outage"] = (*shown)["outage"];
  std::size_t bytes = 0;
  for (;;) {
    auto row = s.step();
    if (!row) return fail(row.error());
    if (!*row) break;
    if (bytes >= bytes_max) {
      out["more"] = true;
      break;
    }
    auto data = s.text(5);
    bytes += data.size();
    out["next"] = s.count(0);
    out["chunks"].push_back({{"attempt", s.count(1)},
                             {"seq", s.count(2)},
                             {"stream", s.text(3)},
                             {"at_ms", s.number(4)},
                             {"data", std::move(data)}});
  }
  if (out["chunks"].size() >= 1000) out["more"] = true;
  return out;
}

/// As a run that never was: from the one line that its refusal left.
result<nlohmann::json> journal_sqlite::refused(const std::string& run) {
  statement s{*db_, "select at_ms, detail from event where run=? and what='push_refused'"};
  auto row = s.bind(run).step();
  if (!row) return fail(row.error());
  if (!*row) return fail(ec::not_found, "");
  const auto detail = parse_or_discard(s.text(1));
  const auto text = [&](const char* name) { return detail.value(name, ""); };
  return nlohmann::json{{"run", run},
                        {"state", "refused"},
                        {"owner", text("owner")},
                        {"repo", text("repo")},
                        {"sha", text("sha")},
                        {"key", text("key")},
                        {"reason", text("code") + ": " + text("reason")},
                        {"created_ms", s.number(0)},
                        {"attempts", nlohmann::json::array()}};
}

result<nlohmann::json> journal_sqlite::why(const std::string& run) {
  auto out = show(run);
  if (!out && out.error().code == ec::not_found)
    if (auto no = refused(run)) out = std::move(no);
  if (!out) return out;
  (*out)["events"] = nlohmann::json::array();
  if ((*out)["state"] != "refused")
    (*out)["events"].push_back({{"at_ms", (*out)["created_ms"]},
                                {"attempt", 0},
                                {"token", 0},
                                {"actor", "intake"},
                                {"event", "queued"}});
  statement s{
      *db_, "select at_ms, attempt, token, actor, what, detail from event where run=? order by id"};
  auto read = s.bind(run).each([&](const statement& row) {
    nlohmann::json e{{"at_ms", row.number(0)},
                     {"attempt", row.count(1)},
                     {"token", row.count(2)},
                     {"actor", row.text(3)},
                     {"event", row.text(4)}};
    if (auto detail = parse_or_discard(row.text(5)); !detail.is_discarded())
      e["detail"] = std::move(detail);
    (*out)["events"].push_back(std::move(e));
  });
  if (!read) return fail(read.error());
  return out;
}

result<nlohmann::json> journal_sqlite::counts() {
  nlohmann::json out = nlohmann::json::object();
  auto read = statement{*db_, "select state, count(*) from run group by state"}.each(
      [&](const statement& row) { out[row.text(0)] = row.count(1); });
  if (!read) return fail(read.error());
  return out;
}

result<void> check_run_id(const std::string& run) {
  if (!is_ulid(run))
    return fail(ec::bad_argument,
                "\"" + run + "\" is not a run's id, which has 26 characters such as 01J9ZQ…");
  return {};
}

}  // namespace ntrace::journal
