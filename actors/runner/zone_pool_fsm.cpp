#include "actors/runner/zone_pool_fsm.hpp"

#include <algorithm>

#include "config/assert.hpp"
#include "config/mutation.hpp"

namespace ntrace::runner {
namespace {

constexpr std::size_t problem_bytes_max = 200;  // of a line for people

}  // namespace

void zone_pool_fsm::on_enroll(time_point now, const std::string& uuid, std::int64_t at_ms) {
  auto [at, is_new] = workers_.try_emplace(uuid, worker{uuid, zone::zone_fsm{repair_}});
  if (is_new) at->second.enrolled_ms = at_ms;
  at->second.is_leaving = false;
  at->second.zone.on_retry(now);
}

result<void> zone_pool_fsm::on_expel(const std::string& uuid) {
  const auto at = workers_.find(uuid);
  if (at == workers_.end())
    return fail(ec::not_enrolled,
                "no worker " + uuid + " is enrolled; `ntrace workers` lists them");
  if (at->second.zone.state() == zone_state::busy)
    at->second.is_leaving = true;
  else
    workers_.erase(at);
  return {};
}

std::optional<std::string> zone_pool_fsm::on_acquire(const std::string& run) {
  for (auto& [uuid, w] : workers_) {
    if (!w.zone.on_acquire()) continue;
    NTRACE_ASSERT(w.run.empty(), "a worker has one run");
    w.run = run;
    return uuid;
  }
  return {};
}

void zone_pool_fsm::on_release(time_point now, const std::string& uuid, bool broken) {
  const auto at = workers_.find(uuid);
  if (at == workers_.end() || at->second.zone.state() != zone_state::busy) return;
  at->second.run.clear();
  at->second.zone.on_release(now, broken, random_);
  if (at->second.is_leaving || (broken && mutated(mutation::broken_worker_is_put_away)))
    workers_.erase(at);
  if (broken)
    for (auto& [other, w] : workers_) w.zone.on_suspicion(now);
}

void zone_pool_fsm::on_receipt(const std::string& uuid, domain::document receipt) {
  if (const auto at = workers_.find(uuid); at != workers_.end())
    at->second.last_clean = std::move(receipt);
}

std::vector<std::string> zone_pool_fsm::on_tick(time_point now) {
  std::vector<std::string> out;
  for (auto& [uuid, w] : workers_)
    if (w.zone.on_tick(now)) out.push_back(uuid);
  return out;
}

void zone_pool_fsm::on_proved(time_point now, const std::string& uuid, const std::string& problem) {
  if (const auto at = workers_.find(uuid); at != workers_.end())
    at->second.zone.on_proved(now, problem, random_);
}

std::optional<time_point> zone_pool_fsm::next_wake() const {
  std::optional<time_point> out;
  for (const auto& [uuid, w] : workers_)
    if (const auto at = w.zone.wake(); at && (!out || *at < *out)) out = at;
  return out;
}

const worker* zone_pool_fsm::find(const std::string& uuid) const {
  const auto at = workers_.find(uuid);
  return at == workers_.end() ? nullptr : &at->second;
}

std::vector<worker> zone_pool_fsm::list() const {
  std::vector<worker> out;
  for (const auto& [uuid, w] : workers_) out.push_back(w);
  return out;
}

std::size_t zone_pool_fsm::count(zone_state s) const {
  return static_cast<std::size_t>(std::count_if(
      workers_.begin(), workers_.end(), [s](const auto& w) { return w.second.zone.state() == s; }));
}

std::string zone_pool_fsm::text(time_point now) const {
  std::string out = std::to_string(size()) + " enrolled";
  for (const auto s : {zone_state::busy, zone_state::proving})
    if (const auto n = count(s))
      out.append(", " + std::to_string(n) + " ").append(zone::to_string(s));
  for (const auto s : {zone_state::repairing, zone_state::parked}) {
    const worker* longest = nullptr;
    for (const auto& [uuid, w] : workers_)
      if (w.zone.state() == s && (!longest || w.zone.broken_at() < longest->zone.broken_at()))
        longest = &w;
    if (!longest) continue;
    const auto lasts =
        std::chrono::duration_cast<std::chrono::seconds>(now - longest->zone.broken_at());
    out.append(", " + std::to_string(count(s)) + " ").append(zone::to_string(s));
    out += " for " + std::to_string(lasts.count()) +
           " s: " + longest->zone.problem().substr(0, problem_bytes_max);
  }
  return out;
}

}  // namespace ntrace::runner
