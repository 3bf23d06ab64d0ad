#include "actors/dispatcher/waiting_runs.hpp"

#include <algorithm>

#include "config/assert.hpp"

namespace ntrace::dispatcher {
namespace {

/// Repos whose turn is remembered though nothing of them waits.
constexpr std::size_t idle_repos_max = 10'000;
/// So few runs take too little memory to be worth giving it back.
constexpr std::size_t few_runs = 1'000;
constexpr std::string_view digits = "0123456789abcdef";

}  // namespace

bool waiting_runs::place::operator<(const place& other) const {
  if (priority != other.priority) return priority > other.priority;
  if (turn != other.turn) return turn < other.turn;
  return by_age{}(oldest, other.oldest);
}

bool waiting_runs::add(const run_row& row) {
  record r;
  if (row.id.size() > r.id_bytes.size()) return false;
  const auto next = runs_.lower_bound(std::string_view{row.id});
  if (next != runs_.end() && next->id() == row.id) return false;
  std::copy(row.id.begin(), row.id.end(), r.id_bytes.begin());
  r.id_size = static_cast<std::uint8_t>(row.id.size());
  r.sha_size = static_cast<std::uint8_t>(std::min(row.sha.size() / 2, r.sha.size()));
  for (std::size_t i = 0; i < r.sha_size; ++i)
    r.sha[i] = static_cast<std::uint8_t>((digits.find(row.sha[2 * i]) << 4 & 0xf0) |
                                         (digits.find(row.sha[2 * i + 1]) & 0xf));
  r.priority = static_cast<std::int8_t>(row.priority);
  r.attempts = static_cast<std::uint32_t>(row.attempts);
  r.created_ms = row.created_ms;
  r.deadline_ms = row.deadline_ms;
  r.expired_token = row.expired_token;
  r.outages = row.outages;
  if (!sources_.gives(row.source, row.owner, row.repo, row.sha))
    r.source = std::make_unique<const std::string>(row.source);
  drop_idle_repos();
  auto& repo = repos_[row.owner + "/" + row.repo];
  repo.owner = row.owner;
  repo.name = row.repo;
  r.repo = &repo;
  const auto* kept = &*runs_.insert(next, std::move(r));
  auto& runs = repo.lanes.try_emplace(kept->priority, &memory_).first->second;
  const bool is_first = runs.empty() || by_age{}(kept, *runs.begin());
  if (is_first && !runs.empty()) {
    const auto moved = order_.erase(place_of(repo, kept->priority, runs));
    NTRACE_ASSERT(moved == 1, "each lane has one place");
  }
  runs.insert(runs.end(), kept);
  if (is_first) order_.insert(place_of(repo, kept->priority, runs));
  most_ = std::max(most_, runs_.size());
  return true;
}

run_row waiting_runs::row_of(const record& r) const {
  run_row out;
  out.id = std::string{r.id()};
  out.owner = r.repo->owner;
  out.repo = r.repo->name;
  for (std::size_t i = 0; i < r.sha_size; ++i) {
    out.sha += digits[r.sha[i] >> 4];
    out.sha += digits[r.sha[i] & 0xf];
  }
  out.source = r.source ? *r.source : sources_.fill(out.owner, out.repo, out.sha);
  out.priority = r.priority;
  out.attempts = r.attempts;
  out.created_ms = r.created_ms;
  out.deadline_ms = r.deadline_ms;
  out.expired_token = r.expired_token;
  out.outages = r.outages;
  return out;
}

run_row waiting_runs::remove(records::iterator at) {
  const auto* r = &*at;
  auto& repo = *r->repo;
  auto out = row_of(*r);
  auto& runs = repo.lanes.at(r->priority);
  const auto places = order_.erase(place_of(repo, r->priority, runs));
  const auto gone = runs.erase(r);
  NTRACE_ASSERT(places == 1 && gone == 1, "a run stands in its lane, and that in the order");
  if (runs.empty())
    repo.lanes.erase(r->priority);
  else
    order_.insert(place_of(repo, r->priority, runs));
  runs_.erase(at);
  give_memory_back();
  return out;
}

std::optional<run_row> waiting_runs::take(const std::string& id) {
  const auto at = runs_.find(std::string_view{id});
  if (at == runs_.end()) return {};
  return remove(at);
}

std::optional<run_row> waiting_runs::find(const std::string& id) const {
  const auto at = runs_.find(std::string_view{id});
  if (at == runs_.end()) return {};
  return row_of(*at);
}

std::optional<run_row> waiting_runs::take_next() {
  if (order_.empty()) return {};
  const auto* oldest = order_.begin()->oldest;
  auto& repo = *oldest->repo;
  const auto at = runs_.find(oldest->id());
  NTRACE_ASSERT(at != runs_.end(), "the order names runs that wait");
  auto out = remove(at);
  for (const auto& [priority, runs] : repo.lanes) order_.erase(place_of(repo, priority, runs));
  repo.turn = next_turn_++;
  for (const auto& [priority, runs] : repo.lanes) order_.insert(place_of(repo, priority, runs));
  return out;
}

void waiting_runs::give_memory_back() {
  if (!runs_.empty() || most_ <= few_runs) return;
  memory_.release();  // No lane is left either: an empty one goes with its last run.
  most_ = 0;
}

/// Only who comes first is lost with them.
void waiting_runs::drop_idle_repos() {
  if (repos_.size() < idle_repos_max) return;
  if (repos_.size() - order_.size() < idle_repos_max) return;
  std::erase_if(repos_, [](const auto& r) { return r.second.lanes.empty(); });
}

}  // namespace ntrace::dispatcher
