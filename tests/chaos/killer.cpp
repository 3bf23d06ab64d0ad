#include "tests/chaos/killer.hpp"

#include <poll.h>

#include <algorithm>

namespace ntrace::chaos {
namespace {

constexpr milliseconds well_max{60'000}, well_every{50}, well_for{400};

void wait(milliseconds time) { ::poll(nullptr, 0, static_cast<int>(time.count())); }

}  // namespace

killer::killer(fleet& victims, std::uint64_t seed, time_point began,
               const std::vector<std::string>& only)
    : victims_{victims}, random_{seed}, began_{began}, is_struck_(fleet::places, false) {
  for (const auto& k : kinds_of_faults()) {
    if (!only.empty() && std::find(only.begin(), only.end(), k.name) == only.end()) continue;
    if (auto lacks = k.lacks ? k.lacks(victims) : ""; !lacks.empty())
      skipped_.emplace_back(k.name, std::move(lacks));
    else
      usable_.push_back(&k);
  }
}

std::string killer::unknown(const std::vector<std::string>& names) {
  for (const auto& name : names)
    if (std::none_of(kinds_of_faults().begin(), kinds_of_faults().end(),
                     [&](const kind_of_fault& k) { return name == k.name; }))
      return name;
  return "";
}

killer::~killer() { wait(); }

std::optional<std::size_t> killer::free_node(const std::vector<std::size_t>& of) {
  std::vector<std::size_t> free;
  for (const auto n : of)
    if (!is_struck_[n]) free.push_back(n);
  if (free.empty()) return std::nullopt;
  return free[random_.below(free.size())];
}

void killer::strike() {
  const std::lock_guard held{mutex_};
  if (round_.empty()) round_ = usable_;
  // The kinds in an order of chance; one whose nodes are all taken waits for the next time.
  for (std::size_t tries = round_.size(); tries > 0; --tries) {
    const auto at = random_.below(round_.size());
    const auto* what = round_[at];
    const auto node = free_node(what->on);
    if (!node) continue;
    round_.erase(round_.begin() + static_cast<std::ptrdiff_t>(at));
    is_struck_[*node] = true;
    threads_.emplace_back(
        [this, what, n = *node, seed = random_.next()] { carry_out(*what, n, seed); });
    return;
  }
}

void killer::carry_out(const kind_of_fault& what, std::size_t node, std::uint64_t seed) {
  random_source random{seed};
  scene here{victims_, node, random};
  const auto since_start = [this] {
    return std::chrono::duration_cast<milliseconds>(steady_clock::now() - began_);
  };
  struck one{what.name, node, since_start(), {}, milliseconds{-1}};
  const auto done = what.strike(here);
  if (done && what.heal)
    chaos::wait(what.least +
                milliseconds{random.below(
                    static_cast<std::uint64_t>((what.most - what.least).count()) + 1)});
  // Also what was caused only in part.
  const auto mended = what.heal ? what.heal(here) : result<void>{};
  const auto healed = since_start();
  one.lasted = healed - one.at;
  std::string death;
  // What was struck may look well until it notices: it has to stay well for a while.
  auto well_since = healed;
  while (done && since_start() - healed < well_max) {
    const auto now = since_start();
    if (!is_well_after(node)) well_since = since_start();
    if (now - well_since >= well_for) {
      one.recovered = well_since - healed;
      break;
    }
    if (death = victims_.server(node).died(); !death.empty()) {
      death += ", after " + one.kind;
      if (!victims_.server(node).start()) break;
    }
    chaos::wait(well_every);
  }
  const std::lock_guard held{mutex_};
  is_struck_[node] = false;
  broken_.insert(broken_.end(), here.broken.begin(), here.broken.end());
  if (!death.empty()) deaths_.push_back(death);
  if (!done)
    failed_.emplace_back(one.kind, to_string(done.error()));
  else if (mended)
    log_.push_back(one);
  else if (one.recovered.count() >= 0)  // The part that could not be repaired was gone meanwhile.
    failed_.emplace_back(one.kind, to_string(mended.error()));
  else
    unmended_.push_back(one.kind + ": " + to_string(mended.error()));
}

bool killer::is_well_after(std::size_t node) const {
  if (!victims_.is_well(node)) return false;
  if (node != 0) return true;
  // What strikes the dispatcher's machine, sshd with it, strikes all runners.
  for (std::size_t i = 1; i < fleet::nodes; ++i) {
    const bool has_its_own = [&] {
      const std::lock_guard held{mutex_};
      return is_struck_[i];
    }();
    if (!has_its_own && !victims_.is_well(i)) return false;
  }
  return true;
}

void killer::wait() {
  for (;;) {
    std::vector<std::thread> all;
    {
      const std::lock_guard held{mutex_};
      all.swap(threads_);
    }
    if (all.empty()) return;
    for (auto& t : all) t.join();
  }
}

std::vector<struck> killer::log() const {
  const std::lock_guard held{mutex_};
  return log_;
}

std::vector<std::pair<std::string, std::string>> killer::failed() const {
  const std::lock_guard held{mutex_};
  return failed_;
}

std::vector<std::string> killer::unmended() const {
  const std::lock_guard held{mutex_};
  return unmended_;
}

std::vector<broken_rule> killer::broken() const {
  const std::lock_guard held{mutex_};
  return broken_;
}

std::vector<std::string> killer::deaths() const {
  const std::lock_guard held{mutex_};
  return deaths_;
}

}  // namespace ntrace::chaos
