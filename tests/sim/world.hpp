#pragma once
// The ground that the simulated processes stand on: virtual time, one order of events, chance from
// one seed, the history with its checker, and the count of what was met.
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "config/assert.hpp"
#include "config/digest.hpp"
#include "config/random.hpp"
#include "tests/support/invariants.hpp"

namespace ntrace::sim {

using test::fact;
using test::fact_kind;
using coverage = std::map<std::string, std::uint64_t>;

class world {
public:
  world(std::uint64_t seed, test::check_options options, bool keeps_history)
      : random{seed}, checker{options}, keeps_history_{keeps_history} {}

  time_point now() const { return now_; }
  /// Calls `what` after `wait`; events of the same time in the order in which they were asked for.
  void after(time_point::duration wait, std::function<void()> what) {
    events_.emplace(std::pair{now_ + wait, next_++}, std::move(what));
  }
  void after_between(std::uint64_t from_us, std::uint64_t to_us, std::function<void()> what) {
    after(std::chrono::microseconds{from_us + random.below(to_us - from_us + 1)}, std::move(what));
  }
  /// What multiplies is a violation as well, and must end before the machine's memory does.
  static constexpr std::size_t events_max = 20'000;
  void run_until(time_point end) {
    while (!events_.empty() && events_.begin()->first.first <= end) {
      now_ = events_.begin()->first.first;
      const auto what = std::move(events_.begin()->second);
      events_.erase(events_.begin());
      try {
        what();
      } catch (const assertion_failed& e) {
        return give_up(fact_kind::asserted, e.what());
      }
      if (++steps % 1024 == 0 && events_.size() > events_max)
        return give_up(fact_kind::held_bytes, "what is to come");
    }
    now_ = end;
  }

  /// Adds to the history, and holds it against the invariants.
  void note(fact f) {
    f.at = now_;
    const auto line = test::to_line(f);
    digest.add(line + "\n");
    if (keeps_history_) history.push_back(line);
    checker.on(f);
  }
  void met(const std::string& what) { ++seen[what]; }

  random_source random;
  test::invariant_checker checker;
  sha256 digest;
  std::vector<std::string> history;
  coverage seen;
  std::uint64_t steps = 0;
  time_point forge_back{}, registry_back{};  ///< When they can be reached again.

private:
  void give_up(fact_kind kind, const std::string& why) {
    fact f;
    f.kind = kind;
    f.who = "the simulation";
    f.text = why;
    f.n = {events_.size(), events_max};
    note(std::move(f));
    events_.clear();
  }

  bool keeps_history_;
  time_point now_{};
  std::uint64_t next_ = 0;
  std::map<std::pair<time_point, std::uint64_t>, std::function<void()>> events_;
};

/// Something that lives, dies and lives again: what it asked for in an earlier life is not done.
/// Its clock drifts: up to 5 % fast or slow, far more than a quartz does, so that what depends on
/// it shows.
class process {
public:
  explicit process(world& w)
      : world_{w}, rate_ppm_{950'000 + static_cast<std::int64_t>(w.random.below(100'001))} {}
  /// What its own steady clock says.
  time_point now() const {
    const auto us =
        std::chrono::duration_cast<std::chrono::microseconds>(world_.now().time_since_epoch());
    return time_point{} + us * rate_ppm_ / 1'000'000;
  }
  /// By its own clock, and never early.
  void after(time_point::duration wait, std::function<void()> what) {
    world_.after(by_own_clock(wait), mine(std::move(what)));
  }
  /// At that time of its own clock, or now.
  void at(time_point when, std::function<void()> what) {
    after(std::max(time_point::duration{0}, when - now()), std::move(what));
  }
  void after_between(std::uint64_t from_us, std::uint64_t to_us, std::function<void()> what) {
    world_.after_between(from_us, to_us, mine(std::move(what)));
  }
  /// As a mailbox does: soon, and after what was given before with the same `arrival`.
  void in_order(time_point& arrival, std::function<void()> what) {
    arrival =
        std::max(arrival, world_.now() + std::chrono::microseconds{1 + world_.random.below(100)});
    world_.after(arrival - world_.now(), mine(std::move(what)));
  }

  /// SIGSTOP, and SIGCONT after a while. Whatever comes due or arrives meanwhile does so then.
  void stop_for(time_point::duration lasts) {
    if (!is_alive_) return;
    if (stops_++ == 0) stopped_at_ = now();
    world_.after(lasts, [this, life = life_] {
      if (!is_alive_ || life_ != life || --stops_ != 0) return;
      stopped_ += now() - stopped_at_;
      while (stops_ == 0 && !held_.empty()) {
        const auto what = std::move(held_.front());
        held_.pop_front();
        what();
      }
    });
  }
  bool is_stopped() const { return stops_ != 0; }
  /// As now(), but what it was stopped for does not count.
  time_point awake() const { return (is_stopped() ? stopped_at_ : now()) - stopped_; }
  /// Now, or when it goes on.
  void when_running(std::function<void()> what) {
    if (!is_stopped()) return what();
    held_.push_back(std::move(what));
  }

protected:
  std::function<void()> mine(std::function<void()> what) {
    return [this, life = life_, what = std::move(what)] {
      if (!is_alive_ || life_ != life) return;
      when_running([this, life, what] {
        if (is_alive_ && life_ == life) what();
      });
    };
  }
  /// At that time of its clock, also while it is stopped: what others of its machine do.
  void beside_at(time_point when, std::function<void()> what) {
    world_.after(by_own_clock(std::max(time_point::duration{0}, when - now())),
                 [this, life = life_, what = std::move(what)] {
                   if (is_alive_ && life_ == life) what();
                 });
  }
  void die() {
    is_alive_ = false;
    ++life_;
    stops_ = 0;
    held_.clear();
  }
  world& world_;
  std::int64_t rate_ppm_;
  bool is_alive_ = false;
  std::uint64_t life_ = 0;

private:
  time_point::duration by_own_clock(time_point::duration wait) const {
    const auto us = std::chrono::ceil<std::chrono::microseconds>(wait);
    return us * 1'000'000 / rate_ppm_ + std::chrono::microseconds{2};
  }
  unsigned stops_ = 0;
  std::deque<std::function<void()>> held_;
  time_point stopped_at_{};
  time_point::duration stopped_{0};
};

}  // namespace ntrace::sim
