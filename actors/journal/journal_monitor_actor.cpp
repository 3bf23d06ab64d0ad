#include "actors/journal/journal_monitor_actor.hpp"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/journal/story_check.hpp"
#include "config/backoff.hpp"
#include "config/clock.hpp"
#include "config/gauges.hpp"
#include "config/log.hpp"
#include "supervision/caf_types.hpp"

namespace ntrace::journal {
namespace {

constexpr milliseconds poll_every{500};
constexpr backoff_policy failure_wait{poll_every, milliseconds{60'000}};
constexpr std::size_t lines_per_poll = 1000;
constexpr std::size_t list_max = 100;            // violations that are told in full
constexpr std::size_t known_max = 10'000;        // runs and rules that are not told again
constexpr std::size_t story_lines_max = 20'000;  // far more than a run of a sound fleet has
constexpr int niceness = 10;                     // pushes and results come first

struct monitor_state {
  const char* name = "journal_monitor";
  std::shared_ptr<journal_sqlite> db;
  story_rules rules;
  std::int64_t seen = 0;  ///< The last line that was judged.
  token_order tokens;
  std::int64_t runs_checked = 0, lines_behind = 0, violations = 0;
  nlohmann::json list = nlohmann::json::array();
  std::set<std::string> known;
  unsigned failures = 0;
  random_source random{random_seed()};
};
using monitor_self = journal_monitor::stateful_pointer<monitor_state>;

void tell(monitor_state& state, const broken_rule& v) {
  static auto& counted = gauges::value("invariant_violations");
  if (state.known.size() >= known_max) {
    ++gauges::value("invariant_violations_untold");
    return;
  }
  if (!state.known.insert(v.invariant + v.run).second) return;
  counted = ++state.violations;
  log::error("invariant.violated", {{"invariant", v.invariant}, {"run", v.run}, {"what", v.what}});
  if (state.list.size() < list_max)
    state.list.push_back(
        {{"invariant", v.invariant}, {"run", v.run}, {"what", v.what}, {"at_ms", wall_ms()}});
}

/// True when there is more to read.
result<bool> judge_news(monitor_state& state) {
  const auto fresh = state.db->news_after(state.seen, lines_per_poll);
  if (!fresh) return fail(fresh.error());
  for (const auto& one : fresh->offers)
    if (const auto broken = state.tokens.on_offered(one.run, one.token)) tell(state, *broken);
  for (const auto& run : fresh->runs) {
    const auto judged = state.db->judge_run(run, state.rules, story_lines_max);
    if (!judged) return fail(judged.error());
    if (!judged->has_story) continue;  // Its retention is over.
    if (!judged->is_whole) {           // A part of it would tell lies.
      ++gauges::value("invariant_stories_too_long");
      continue;
    }
    for (const auto& broken : judged->broken) tell(state, broken);
    ++state.runs_checked;
  }
  state.seen = state.rules.after = fresh->last_event;
  const auto last = state.db->last_event();
  if (!last) return fail(last.error());
  state.lines_behind = *last - state.seen;
  return fresh->lines == lines_per_poll;
}

void poll(monitor_self self) {
  auto& state = self->state;
  static auto &checked = gauges::value("invariant_runs_checked"),
              &behind = gauges::value("invariant_lines_behind");
  result<bool> more = false;
  try {
    more = judge_news(state);
  } catch (const std::exception& e) {  // It watches; its own faults must not end what it watches.
    more = fail(ec::defect, e.what());
  }
  checked = state.runs_checked;
  behind = state.lines_behind;
  if (more) {
    state.failures = 0;
    if (*more)
      self->send(self, poll_atom::value);
    else
      self->delayed_send(self, poll_every, poll_atom::value);
    return;
  }
  ++gauges::value("invariant_monitor_failures");
  if (state.failures++ == 0)
    log::warn("invariant.monitor_failed", {{"reason", to_string(more.error())}});
  self->delayed_send(self, backoff_wait(failure_wait, std::min(state.failures, 10u), state.random),
                     poll_atom::value);
}

journal_monitor::behavior_type monitor(monitor_self self, const std::shared_ptr<journal_sqlite>& db,
                                       std::uint64_t attempts_max, std::int64_t seen,
                                       std::uint64_t last_token) {
  supervision::guard(self, "journal_monitor");
  auto& state = self->state;
  state.db = db;
  state.rules = {attempts_max, seen};
  state.seen = seen;
  state.tokens = token_order{last_token};
  // Of this thread only: setpriority(2), "C library/kernel differences".
  if (::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), niceness) != 0)
    log::debug("invariant.not_nice", {{"errno", errno}});
  self->send(self, poll_atom::value);
  return {[self](findings_atom) -> caf::result<read_answer> {
            const auto& s = self->state;
            return read_answer{{{"runs_checked", s.runs_checked},
                                {"lines_behind", s.lines_behind},
                                {"violations", s.violations},
                                {"list", s.list}}};
          },
          [self](poll_atom) { poll(self); }};
}

}  // namespace

result<caf::actor> spawn_journal_monitor(caf::actor_system& system, const std::string& path,
                                         std::uint64_t attempts_max) {
  auto db = journal_sqlite::open(path, sqlite::role::reader);
  if (!db) return fail(db.error());
  // In this order: an offer that is written in between is behind both, and no line to judge.
  const auto token = (*db)->highest_token();
  if (!token) return fail(token.error());
  const auto seen = (*db)->last_event();
  if (!seen) return fail(seen.error());
  return caf::actor_cast<caf::actor>(system.spawn<caf::detached>(
      monitor, std::shared_ptr<journal_sqlite>{std::move(*db)}, attempts_max, *seen, *token));
}

}  // namespace ntrace::journal
