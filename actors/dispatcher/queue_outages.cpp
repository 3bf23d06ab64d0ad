// The part of queue_fsm that waits for what cannot be reached: how long, and what people are told.
#include <algorithm>

#include "actors/dispatcher/queue_fsm.hpp"
#include "config/assert.hpp"
#include "config/outage.hpp"

namespace ntrace::dispatcher {
namespace {

constexpr std::size_t hosts_listed_max = 20;
constexpr milliseconds day_is_said_from{43'200'000};

std::string since_text(const outage_record& r) {
  const auto moment = format_wall(r.since_ms);  // "2026-01-31T12:00:00.123Z"
  const auto time = moment.substr(11, 8) + " UTC";
  const milliseconds lasts{r.at_ms - r.since_ms};
  return lasts < day_is_said_from ? time : moment.substr(0, 10) + " " + time;
}

std::string seconds_text(milliseconds time) {
  return std::to_string(std::chrono::ceil<std::chrono::seconds>(time).count()) + " s";
}

/// Never sooner than the server asks, unless that is beyond the longest wait; and jittered even
/// then: all runs were told the same.
milliseconds outage_wait(const backoff_policy& policy, milliseconds retry_after, unsigned retry,
                         random_source& random) {
  const auto least = retry_after > policy.max ? policy.max / 2 : retry_after;
  return least + backoff_wait({std::max(policy.min, least / 2), policy.max - least}, retry, random);
}

}  // namespace

/// The next try comes later each time, and once more at the end of the patience. The patience runs
/// while a wait or a try lasts, not while nobody tries: during a drain, or without a free worker.
outage_record_ptr queue_fsm::outage_met(const outage_record_ptr& before, milliseconds tried_for,
                                        const outage& why) {
  auto r = std::make_shared<outage_record>(before ? *before : outage_record{});
  r->waited = r->is_on() ? r->waited + r->wait + tried_for : milliseconds{0};
  if (!r->is_on()) r->since_ms = 0;
  ++r->total;
  ++r->tries;
  r->last = why;
  const auto wait =
      outage_wait(options_.backoff, why.retry_after, static_cast<unsigned>(r->tries) - 1, random_);
  NTRACE_ASSERT(r->tries <= r->total, "each try is counted");
  NTRACE_ASSERT(wait.count() >= 0, "a wait is not over before it begins");
  r->wait = std::clamp(options_.outage_patience - r->waited, milliseconds{0}, wait);
  return r;
}

outage_record_ptr queue_fsm::outage_over(const outage_record_ptr& before) {
  if (!before || !before->is_on()) return before;
  auto r = std::make_shared<outage_record>(*before);
  r->tries = 0;
  return r;
}

/// As the journal has it now.
outage_record_ptr queue_fsm::outage_stamped(const outage_record_ptr& r, std::int64_t at_ms) {
  if (!r || !r->is_on()) return r;
  auto out = std::make_shared<outage_record>(*r);
  out->at_ms = at_ms;
  if (out->since_ms == 0) out->since_ms = at_ms;
  return out;
}

/// What is left to wait after a restart, whatever the wall clock says.
milliseconds queue_fsm::left_to_wait(const outage_record_ptr& r, std::int64_t wall_ms) {
  if (!r || !r->is_on()) return milliseconds{0};
  return r->wait - milliseconds{std::clamp<std::int64_t>(wall_ms - r->at_ms, 0, r->wait.count())};
}

std::string queue_fsm::outage_end_reason(const outage_record& r) const {
  return r.last.host + " could not be reached for " + seconds_text(r.waited) + " (" +
         std::string{phrase_of(r.last.cause)} + "), " + std::to_string(r.tries) + " tries" +
         (r.since_ms == 0 ? "" : " since " + format_wall(r.since_ms)) +
         ", and outage_patience_ms is over; the last: " + r.last.message;
}

std::string queue_fsm::outage_text(time_point now, const entry& e) const {
  const auto& r = *e.row.outages;
  return r.last.host + ": " + std::string{phrase_of(r.last.cause)} + " since " + since_text(r) +
         ", next try in " + seconds_text(std::chrono::ceil<milliseconds>(e.not_before - now));
}

std::vector<queue_status::host> queue_fsm::outages(time_point now) const {
  std::map<std::string, queue_status::host> hosts;
  std::map<std::string, time_point> next;
  for (const auto& [id, e] : runs_) {
    if (e.at != phase::waiting || !e.row.outages || !e.row.outages->is_on()) continue;
    const auto& r = *e.row.outages;
    if (hosts.size() >= hosts_listed_max && hosts.count(r.last.host) == 0) continue;
    const auto [at, is_new] = hosts.try_emplace(r.last.host);
    auto& h = at->second;
    if (is_new || r.since_ms < h.since_ms) {
      h.cause = r.last.cause;
      h.since_ms = r.since_ms;
    }
    const auto due = next.try_emplace(r.last.host, e.not_before).first;
    due->second = std::min(due->second, e.not_before);
    ++h.runs;
  }
  std::vector<queue_status::host> out;
  for (auto& [name, h] : hosts) {
    h.name = name;
    h.next_try_in = std::max(milliseconds{0}, std::chrono::ceil<milliseconds>(next.at(name) - now));
    out.push_back(std::move(h));
  }
  return out;
}

}  // namespace ntrace::dispatcher
