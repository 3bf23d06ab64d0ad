#include "actors/journal/story_check.hpp"

#include <algorithm>

namespace ntrace::journal {
namespace {

std::string text_in(const nlohmann::json& detail, const char* name) {
  const auto at = detail.find(name);
  return at != detail.end() && at->is_string() ? at->get<std::string>() : std::string{};
}

std::optional<std::uint64_t> number_in(const nlohmann::json& detail, const char* name) {
  const auto at = detail.find(name);
  return at != detail.end() && at->is_number_unsigned() ? std::optional{at->get<std::uint64_t>()}
                                                        : std::nullopt;
}

std::string of_token(std::uint64_t token) { return "token " + std::to_string(token); }

}  // namespace

bool is_offer(std::string_view what) { return what == "offered" || what == "handed"; }

bool met_outage(const event& e) {
  const auto next = text_in(e.detail, "state");
  return e.detail.contains("outage") && (next == "queued" || next == "quarantined");
}

std::optional<broken_rule> token_order::on_offered(const std::string& run, std::uint64_t token) {
  const auto before = std::exchange(last_, std::max(last_, token));
  if (token > before) return {};
  return broken_rule{
      "S5", run,
      of_token(token) + " was given after " + std::to_string(before) + ", to this run or another"};
}

void story_checker::hold(const char* invariant, bool holds, std::string what) {
  if (holds) return;
  ++out_.count;
  if (out_.broken.size() < told_max)
    out_.broken.push_back({invariant, story_.run, std::move(what)});
}

void story_checker::on(const numbered_event& e) {
  const auto& what = e.what.what;
  if (lines_++ == 0)
    hold("S21", e.id > story_.pushed_seq,
         "the push has number " + std::to_string(story_.pushed_seq) + ", its first line " +
             std::to_string(e.id));
  if (what == "story_lost")
    on_story_lost(e.what);
  else if (is_offer(what))
    on_offered(e.what.token);
  else if (what == "accepted")
    on_accepted(e);
  else if (what == "started")
    on_started(e.what.token);
  else if (what == "revived")
    on_revived(e.what.token);
  else if (what == "attempt_ended" || what == "ended")
    on_ended(e);
  else if (what == "cancelled")
    end(run_state::cancelled);
  else if (what == "requeued")
    on_requeued(e.what);
  // Last: whether there may be another attempt was decided by what the lines before say.
  if (const auto limit = number_in(e.what.detail, "attempts_max")) attempts_max_ = *limit;
}

judgement story_checker::finish() {
  out_.has_story = lines_ != 0;
  out_.is_kept = story_.has_row || out_.has_story || !story_.attempts.empty();
  if (story_.is_being_deleted) {
    out_.broken.clear();
    out_.count = 0;
    return std::move(out_);
  }
  if (!is_salvaged_) at_the_end();
  for (const auto& a : story_.attempts)
    hold("S8", a.chunks == a.last_chunk,
         of_token(a.token) + " has " + std::to_string(a.chunks) + " chunks, the last is number " +
             std::to_string(a.last_chunk));
  hold("S6", story_.stray_chunks == 0,
       std::to_string(story_.stray_chunks) + " chunks are of tokens that no attempt has");
  return std::move(out_);
}

void story_checker::on_story_lost(const event& e) {
  is_salvaged_ = is_lost_ = true;
  out_.broken.clear();
  out_.count = 0;
  if (const auto word = text_in(e.detail, "state"); !word.empty())
    state_ = domain::run_state_from(word);
}

void story_checker::on_offered(std::uint64_t token) {
  hold("S5", token > offered_, of_token(token) + " follows " + std::to_string(offered_));
  hold(is_open()                        ? "S4"
       : state_ == run_state::cancelled ? "S15"
                                        : "S7",
       state_ == run_state::queued, "it was offered while it was " + state());
  offered_ = token;
  offers_.insert(token);
}

void story_checker::on_accepted(const numbered_event& e) {
  hold("S4", state_ == run_state::queued && e.what.token == offered_,
       of_token(e.what.token) + " was accepted while the run was " + state() + " and " +
           std::to_string(offered_) + " was offered");
  ++accepted_;
  // A limit that the lines do not say may have been another one then.
  const auto limit = attempts_max_ != 0 ? attempts_max_ : rules_.attempts_max;
  const bool is_old = attempts_max_ == 0 && accepted_at_ <= rules_.after;
  hold("S13", limit == 0 || accepted_ - outages_ <= limit || is_old,
       "it was accepted " + std::to_string(accepted_) + " times, of which " +
           std::to_string(outages_) + " met an outage; at most " + std::to_string(limit) +
           " others are due");
  accepted_at_ = e.id;
  live_ = e.what.token;
  state_ = run_state::leased;
}

void story_checker::on_started(std::uint64_t token) {
  // It is said again when its answer was lost.
  hold(
      "S6", (state_ == run_state::leased || state_ == run_state::running) && token == live_,
      of_token(token) + " started while the run was " + state() + " with " + std::to_string(live_));
  state_ = run_state::running;
}

void story_checker::on_revived(std::uint64_t token) {
  hold("S4", state_ == run_state::queued && token == live_,
       of_token(token) + " was revived while the run was " + state() + ", accepted last was " +
           std::to_string(live_));
  verdicts_.erase(token);
  state_ = run_state::leased;
}

void story_checker::on_ended(const numbered_event& e) {
  const auto& detail = e.what.detail;
  const auto said = text_in(detail, "verdict");
  const bool is_verdict = state_ == run_state::leased || state_ == run_state::running;
  if (is_verdict) {
    hold("S6", e.what.token == live_,
         "a verdict of " + of_token(e.what.token) + " was stored, live was " +
             std::to_string(live_));
    hold_chunks(e);
    verdicts_[e.what.token] = said;
    if (met_outage(e.what)) ++outages_;
  }
  if (e.what.what == "attempt_ended") {
    hold("S7", is_open(), "an attempt ended after the run was " + state());
    hold("S14", said != "script_failed" && said != "source_failed",
         "it is retried though its " + said.substr(0, 6) + " failed");
    state_ = run_state::queued;
    return;
  }
  const auto next = domain::run_state_from(text_in(detail, "state"));
  hold("S13", next != run_state::quarantined || !text_in(detail, "reason").empty(),
       "it was quarantined without a reason");
  end(next);
  verdict_ = said;
}

/// The line names what was stored when the verdict was.
void story_checker::hold_chunks(const numbered_event& e) {
  const auto named = number_in(e.what.detail, "chunks");
  if (e.id <= rules_.after || !named) return;
  const auto at = std::find_if(story_.attempts.begin(), story_.attempts.end(),
                               [&](const auto& a) { return a.token == e.what.token; });
  const auto stored = at == story_.attempts.end() ? 0 : at->chunks;
  hold("S9", stored == *named,
       "the verdict of " + of_token(e.what.token) + " names " + std::to_string(*named) +
           " chunks, " + std::to_string(stored) + " are stored");
}

void story_checker::end(run_state next) {
  hold(
      "S7", is_open(),
      "it got a second end, " + std::string{domain::to_string(next)} + ", after it was " + state());
  state_ = next;
  verdict_.reset();
}

void story_checker::on_requeued(const event& e) {
  hold("S7", !is_open() || is_lost_ || e.actor == "salvage",
       "it was requeued while it was " + state());
  is_counted_ = e.actor != "salvage";  // Which once kept the count of attempts.
  is_lost_ = false;
  state_ = run_state::queued;
  verdict_.reset();
  accepted_ = outages_ = 0;
  live_ = 0;
}

void story_checker::at_the_end() {
  if (!story_.has_row && lines_ == 0) return;
  hold("S1", story_.has_row, "its story is told, the run is not there");
  if (!story_.has_row) return;
  const std::string row{domain::to_string(story_.state)};
  hold("S18", lines_ != 0 || (story_.state == run_state::queued && story_.token == 0),
       "it is " + row + " and nothing says how it came to be");
  hold("S2", story_.state == state_ || lines_ == 0,
       "it is " + row + ", its story ends with " + state());
  const bool is_held = state_ == run_state::leased || state_ == run_state::running;
  hold("S2", !is_held || story_.token == live_,
       "its live token is " + std::to_string(story_.token) + ", its story says " +
           std::to_string(live_));
  hold("S2", story_.attempts_begun == accepted_ || !is_counted_,
       "it has begun " + std::to_string(story_.attempts_begun) + " attempts, its story tells of " +
           std::to_string(accepted_));
  hold("S13", story_.outages.value_or(outages_) == outages_ || !is_counted_,
       std::to_string(story_.outages.value_or(0)) + " of its attempts are on record as lost to " +
           "outages, which count towards no limit; its story tells of " + std::to_string(outages_));
  hold("S7", story_.state != run_state::queued || story_.verdict.empty(),
       "it is queued and keeps the verdict " + story_.verdict);
  hold("S18",
       !story_.verdict.empty() ||
           (story_.state != run_state::done && story_.state != run_state::failed),
       "it is " + row + " without a verdict");
  hold("S7", !verdict_ || story_.verdict.empty() || *verdict_ == story_.verdict,
       "its verdict is " + story_.verdict + ", its story says " + verdict_.value_or(""));
  std::set<std::uint64_t> kept;
  for (const auto& a : story_.attempts) {
    kept.insert(a.token);
    if (a.is_placeholder) continue;
    hold("S5", offers_.count(a.token) != 0, of_token(a.token) + " was never offered");
    const auto told = verdicts_.find(a.token);
    const auto verdict = told == verdicts_.end() ? std::string{} : told->second;
    hold("S7", a.verdict == verdict,
         "the attempt of " + of_token(a.token) + " has the verdict \"" + a.verdict +
             "\", the story says \"" + verdict + "\"");
  }
  for (const auto token : offers_)
    hold("S2", kept.count(token) != 0, of_token(token) + " was given, which no attempt has");
  const bool has_live = story_.state == run_state::leased || story_.state == run_state::running;
  hold("S2", !has_live || kept.count(story_.token) != 0,
       "it is " + row + " with token " + std::to_string(story_.token) + ", which no attempt has");
}

}  // namespace ntrace::journal
