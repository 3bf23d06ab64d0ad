#include "actors/journal/story_check.hpp"

#include <algorithm>

namespace ntrace::journal {
namespace {

class reader {
public:
  reader(const story& s, const story_rules& rules) : story_{s}, rules_{rules} {}

  std::vector<broken_rule> read() {
    for (const auto& e : story_.events) on(e);
    if (!is_salvaged_) at_the_end();
    for (const auto& a : story_.attempts)
      hold("S8", a.chunks == a.last_chunk,
           "token " + std::to_string(a.token) + " has " + std::to_string(a.chunks) +
               " chunks, the last is number " + std::to_string(a.last_chunk));
    hold("S6", story_.stray_chunks == 0,
         std::to_string(story_.stray_chunks) + " chunks are of tokens that no attempt has");
    return std::move(out_);
  }

private:
  void hold(const char* invariant, bool holds, std::string what) {
    if (!holds) out_.push_back({invariant, story_.run, std::move(what)});
  }

  bool is_open() const { return !dispatcher::is_terminal(state_); }
  std::string state() const { return std::string{dispatcher::to_string(state_)}; }

  void on(const numbered_event& e) {
    const auto& what = e.what.what;
    if (what == "story_lost")
      is_salvaged_ = true;  // By `ntrace journal salvage`: what came before is not known.
    else if (what == "offered" || what == "handed")
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
  }

  void on_offered(std::uint64_t token) {
    hold("S5", token > offered_,
         "token " + std::to_string(token) + " follows " + std::to_string(offered_));
    hold(is_open()                        ? "S4"
         : state_ == run_state::cancelled ? "S15"
                                          : "S7",
         state_ == run_state::queued, "it was offered while it was " + state());
    offered_ = token;
  }

  void on_accepted(const numbered_event& e) {
    hold("S4", state_ == run_state::queued && e.what.token == offered_,
         "token " + std::to_string(e.what.token) + " was accepted while the run was " + state() +
             " and " + std::to_string(offered_) + " was offered");
    ++accepted_;
    hold("S13", accepted_ <= rules_.attempts_max || accepted_at_ <= rules_.after,
         "it was accepted " + std::to_string(accepted_) + " times, at most " +
             std::to_string(rules_.attempts_max) + " are due");
    accepted_at_ = e.id;
    live_ = e.what.token;
    state_ = run_state::leased;
  }

  void on_started(std::uint64_t token) {
    // It is said again when its answer was lost.
    hold("S6", (state_ == run_state::leased || state_ == run_state::running) && token == live_,
         "token " + std::to_string(token) + " started while the run was " + state() + " with " +
             std::to_string(live_));
    state_ = run_state::running;
  }

  void on_revived(std::uint64_t token) {
    hold("S4", state_ == run_state::queued && token == live_,
         "token " + std::to_string(token) + " was revived while the run was " + state() +
             ", accepted last was " + std::to_string(live_));
    state_ = run_state::leased;
  }

  void on_ended(const numbered_event& e) {
    const auto& detail = e.what.detail;
    const auto field = [&](const char* name) {
      const auto at = detail.find(name);
      return at != detail.end() && at->is_string() ? at->get<std::string>() : std::string{};
    };
    const bool is_verdict = state_ == run_state::leased || state_ == run_state::running;
    if (is_verdict) {
      hold("S6", e.what.token == live_,
           "a verdict of token " + std::to_string(e.what.token) + " was stored, live was " +
               std::to_string(live_));
      hold_chunks(e);
    }
    if (e.what.what == "attempt_ended") {
      hold("S7", is_open(), "an attempt ended after the run was " + state());
      hold("S14", field("verdict") != "script_failed", "it is retried though its script failed");
      state_ = run_state::queued;
      return;
    }
    const auto next = dispatcher::run_state_from(field("state"));
    hold("S13", next != run_state::quarantined || !field("reason").empty(),
         "it was quarantined without a reason");
    end(next);
  }

  /// The line names what was stored when the verdict was.
  void hold_chunks(const numbered_event& e) {
    const auto named = e.what.detail.find("chunks");
    if (e.id <= rules_.after || named == e.what.detail.end() || !named->is_number_unsigned())
      return;
    const auto at = std::find_if(story_.attempts.begin(), story_.attempts.end(),
                                 [&](const auto& a) { return a.token == e.what.token; });
    const auto stored = at == story_.attempts.end() ? 0 : at->chunks;
    hold("S9", stored == named->get<std::uint64_t>(),
         "the verdict of token " + std::to_string(e.what.token) + " names " + named->dump() +
             " chunks, " + std::to_string(stored) + " are stored");
  }

  void end(run_state next) {
    hold("S7", is_open(),
         "it got a second end, " + std::string{dispatcher::to_string(next)} + ", after it was " +
             state());
    state_ = next;
  }

  void on_requeued(const event& e) {
    hold("S7", !is_open() || e.actor == "salvage", "it was requeued while it was " + state());
    state_ = run_state::queued;
    accepted_ = 0;
    live_ = 0;
  }

  void at_the_end() {
    hold("S1", story_.has_row, "its story is told, the run is not there");
    if (!story_.has_row) return;
    hold("S2", story_.state == state_,
         "it is " + std::string{dispatcher::to_string(story_.state)} + ", its story ends with " +
             state());
    const bool is_held = state_ == run_state::leased || state_ == run_state::running;
    hold("S2", !is_held || story_.token == live_,
         "its live token is " + std::to_string(story_.token) + ", its story says " +
             std::to_string(live_));
    hold("S7", story_.state != run_state::queued || story_.verdict.empty(),
         "it is queued and keeps the verdict " + story_.verdict);
  }

  const story& story_;
  const story_rules& rules_;
  std::vector<broken_rule> out_;
  run_state state_ = run_state::queued;
  std::uint64_t offered_ = 0, live_ = 0, accepted_ = 0;
  std::int64_t accepted_at_ = 0;
  bool is_salvaged_ = false;
};

}  // namespace

std::vector<broken_rule> check_story(const story& s, const story_rules& rules) {
  return reader{s, rules}.read();
}

}  // namespace ntrace::journal
