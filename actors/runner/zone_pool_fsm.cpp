#include "actors/runner/zone_pool_fsm.hpp"

#include <algorithm>

#include "config/mutation.hpp"

namespace ntrace::runner {

std::string_view to_string(worker_state s) {
  return s == worker_state::free ? "free" : s == worker_state::busy ? "busy" : "repairing";
}

bool zone_pool_fsm::on_enroll(const std::string& uuid, std::int64_t at_ms) {
  const auto [at, is_new] = workers_.try_emplace(uuid);
  if (is_new) {
    at->second.uuid = uuid;
    at->second.enrolled_ms = at_ms;
  }
  at->second.is_leaving = false;
  return is_new;
}

result<void> zone_pool_fsm::on_expel(const std::string& uuid) {
  const auto at = workers_.find(uuid);
  if (at == workers_.end())
    return fail(ec::not_enrolled,
                "no worker " + uuid + " is enrolled; `ntrace workers` lists them");
  if (at->second.state == worker_state::busy)
    at->second.is_leaving = true;
  else
    workers_.erase(at);
  return {};
}

std::optional<std::string> zone_pool_fsm::on_acquire(const std::string& run) {
  for (auto& [uuid, w] : workers_) {
    if (w.state != worker_state::free) continue;
    w.state = worker_state::busy;
    w.run = run;
    return uuid;
  }
  return {};
}

void zone_pool_fsm::on_release(time_point now, const std::string& uuid, bool broken) {
  const auto at = workers_.find(uuid);
  if (at == workers_.end() || at->second.state != worker_state::busy) return;
  auto& w = at->second;
  w.run.clear();
  if (w.is_leaving || (broken && mutated(mutation::broken_worker_is_put_away))) {
    workers_.erase(at);
  } else if (broken) {
    w.state = worker_state::repairing;
    if (w.failures == 0) w.broken_at = now;
    w.retry_at = now + backoff_wait(repair_, w.failures++, random_);
    ++w.restarts;
  } else {
    w.state = worker_state::free;
    w.failures = 0;
  }
}

void zone_pool_fsm::on_proved(const std::string& uuid, nlohmann::json receipt) {
  if (const auto at = workers_.find(uuid); at != workers_.end())
    at->second.last_clean = std::move(receipt);
}

void zone_pool_fsm::on_tick(time_point now) {
  for (auto& [uuid, w] : workers_)
    if (w.state == worker_state::repairing && now >= w.retry_at) w.state = worker_state::free;
}

std::optional<time_point> zone_pool_fsm::next_wake() const {
  std::optional<time_point> out;
  for (const auto& [uuid, w] : workers_)
    if (w.state == worker_state::repairing && (!out || w.retry_at < *out)) out = w.retry_at;
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

std::size_t zone_pool_fsm::count(worker_state s) const {
  return static_cast<std::size_t>(std::count_if(
      workers_.begin(), workers_.end(), [s](const auto& w) { return w.second.state == s; }));
}

std::string zone_pool_fsm::text(time_point now) const {
  std::string out = std::to_string(size()) + " enrolled";
  if (const auto n = count(worker_state::busy)) out += ", " + std::to_string(n) + " busy";
  if (const auto n = count(worker_state::repairing)) {
    auto since = now;
    for (const auto& [uuid, w] : workers_)
      if (w.state == worker_state::repairing) since = std::min(since, w.broken_at);
    out += ", " + std::to_string(n) + " repairing for " +
           std::to_string(std::chrono::duration_cast<std::chrono::seconds>(now - since).count()) +
           " s";
  }
  return out;
}

nlohmann::json to_json(const worker& w) {
  return {{"uuid", w.uuid},         {"state", to_string(w.state)}, {"run", w.run},
          {"restarts", w.restarts}, {"last_clean", w.last_clean},  {"enrolled_ms", w.enrolled_ms}};
}

}  // namespace ntrace::runner
