#include "tests/support/supervisor_script.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace ntrace::test {
namespace {

using namespace supervision;

constexpr milliseconds hour{3'600'000};  // No restart leaves the window while a script runs.

class author {
public:
  explicit author(std::uint64_t seed) : random_{seed} { out_.seed = seed; }

  supervisor_script write() {
    constexpr std::array intensities{0u, 1u, 2u, 3u, 5u, 1000u};
    out_.flags.how = static_cast<strategy>(random_.below(4));
    out_.flags.intensity = intensities[random_.below(intensities.size())];
    out_.flags.period = hour;
    if (one_in(3)) out_.flags.ends = static_cast<auto_shutdown>(1 + random_.below(2));
    if (out_.is_dynamic()) {
      out_.children.push_back(draw_child("template"));
    } else {
      for (auto n = random_.below(6); out_.children.size() < n;)
        out_.children.push_back(draw_child(id_of(out_.children.size())));
      for (const auto& c : out_.children)
        if (one_in(12)) out_.armed.push_back({one_in(2) ? deed::fail : deed::ignore, c.spec.id});
    }
    for (auto n = 1 + random_.below(14); out_.steps.size() < n;) write_step();
    return std::move(out_);
  }

private:
  bool one_in(std::uint64_t n) { return random_.below(n) == 0; }
  bool is_group() const {
    return out_.flags.how == strategy::one_for_all || out_.flags.how == strategy::rest_for_one;
  }
  static std::string id_of(std::uint64_t n) { return std::string(1, static_cast<char>('a' + n)); }
  /// Of a child that may be there; of dynamic ones, those of the past too.
  std::string some_id() {
    if (out_.is_dynamic()) return "w" + std::to_string(random_.below(added_ + 1));
    return id_of(random_.below(6));
  }

  scripted_child draw_child(std::string id) {
    scripted_child out;
    out.spec.id = std::move(id);
    out.spec.restart = static_cast<restart_type>(random_.below(3));
    const bool may_matter =
        out_.flags.ends != auto_shutdown::never && out.spec.restart != restart_type::permanent;
    out.spec.significant = may_matter ? one_in(2) : one_in(60);  // The latter is a bad one.
    if (one_in(6)) out.spec.kind = child_kind::supervisor;
    switch (random_.below(10)) {
      case 0:
        out.spec.shutdown = shutdown_policy::infinity();
        break;
      case 1:
        out.spec.shutdown = shutdown_policy::brutal_kill();
        break;
      case 2:
        out.spec.shutdown.deadline = milliseconds{1};
        out.how = manner::deaf;
        break;
      case 3:
        out.how = manner::spiteful;
        break;
      default:
        break;
    }
    return out;
  }

  /// `is_first`: of those that reach the supervisor together. Ours answers questions at once, while
  /// the calls before them are still being carried out; OTP answers in order.
  scripted_act draw_call(bool is_first) {
    scripted_act out;
    if (is_first && one_in(3)) {
      out.what = std::array{deed::which, deed::count, deed::spec}[random_.below(3)];
      out.id = some_id();
      if (out_.is_dynamic() && out.what == deed::spec) out.what = deed::which;
      return out;
    }
    out.what = std::array{deed::start, deed::terminate, deed::start, deed::restart,
                          deed::remove}[random_.below(out_.is_dynamic() ? 2 : 5)];
    out.id = some_id();
    if (out.what == deed::start && out_.is_dynamic()) out.id = "w" + std::to_string(added_++);
    if (out.what == deed::start && !out_.is_dynamic()) out.child = draw_child(out.id);
    return out;
  }

  /// OTP is told the address that a dynamic child has when the call is made, and forgets in its
  /// count of active ones what it ended while it waited for its restart.
  bool is_clear(const scripted_act& call) const {
    return !out_.is_dynamic() || call.what != deed::terminate ||
           (!contains(dead_, call.id) && contains(known_, call.id));
  }

  /// The next starts of that child go wrong. `by_call`: they are asked for, and no restarts. False
  /// when that would show what ours does otherwise. It is about the step's last act: calls that
  /// come between a failed round and its next try meet other states in ours than in OTP.
  bool arm(std::vector<scripted_act>& step, const std::string& id, bool by_call) {
    // Ours goes on with the child that failed; OTP begins one_for_all's round again.
    if (!by_call && out_.flags.how == strategy::one_for_all) return false;
    scripted_act out{deed::fail, id};
    out.times = 1 + static_cast<unsigned>(random_.below(3));
    // OTP keeps a dynamic child that is ignored at its restart as one without a process.
    if (one_in(4) && (by_call || !out_.is_dynamic())) out.what = deed::ignore;
    // A terminated child's round goes on without it in ours, and not at all in OTP. A failed
    // restart counts at once in ours, and in OTP when it is tried again, after these calls.
    if (out.what == deed::fail && !is_group() && (by_call || counts_nothing()))
      // One that changes something at most: the next try comes before others that wait with it.
      for (auto n = random_.below(3); n > 0; --n) {
        auto call = draw_call(out.within.empty());
        const bool asks = is_question(call.what);
        const bool is_again = call.what == deed::start && call.id == id;
        if (is_clear(call) && !is_again) out.within.push_back(std::move(call));
        if (!asks) break;
      }
    step.push_back(std::move(out));
    return true;
  }
  static bool is_question(deed what) {
    return what == deed::which || what == deed::count || what == deed::spec;
  }
  bool counts_nothing() const { return out_.flags.intensity == 1000; }

  void write_step() {
    constexpr std::array ends{"normal", "shutdown", "shutdown_text", "crash", "crash", "kill"};
    std::vector<scripted_act> step;
    dead_.clear();
    known_.clear();
    for (std::uint64_t i = 0; i < added_; ++i) known_.push_back("w" + std::to_string(i));
    bool has_call = false;
    for (auto n = 1 + random_.below(3); n > 0; --n) {
      // Ours sees to ends before the calls that wait with them for a start to be over.
      if (!has_call && one_in(2)) {
        scripted_act out{deed::die, some_id(), ends[random_.below(ends.size())]};
        // Another end within a round counts in ours, and not in OTP.
        if (contains(dead_, out.id) || (is_group() && !dead_.empty())) continue;
        dead_.push_back(out.id);
        const bool is_armed = one_in(3) && arm(step, out.id, false);
        step.push_back(std::move(out));
        if (is_armed) break;
        continue;
      }
      auto call = draw_call(step.empty());
      if (!is_clear(call)) continue;
      has_call = true;
      const bool starts = call.what == deed::start || call.what == deed::restart;
      // What is armed for a call must not meet a restart.
      const bool may_fail = is_group() ? dead_.empty() : !contains(dead_, call.id);
      const bool is_armed = starts && one_in(3) && may_fail && arm(step, call.id, true);
      if (call.what == deed::terminate) dead_.push_back(call.id);
      step.push_back(std::move(call));
      if (is_armed) break;
    }
    out_.steps.push_back(std::move(step));
  }
  static bool contains(const std::vector<std::string>& ids, const std::string& id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  }

  random_source random_;
  supervisor_script out_;
  std::uint64_t added_ = 0;         ///< Dynamic children so far,
  std::vector<std::string> known_;  ///< and before this step.
  std::vector<std::string> dead_;   ///< Those that must not end in this step any more.
};

std::string shutdown_word(const shutdown_policy& how) {
  if (how.is_brutal) return "brutal_kill";
  return how.deadline ? std::to_string(how.deadline->count()) : "infinity";
}

std::string term(const scripted_child& c) {
  constexpr std::array manners{"obedient", "deaf", "spiteful"};
  return fmt::format("{{{},{},{},{},{},{}}}", c.spec.id, to_string(c.spec.restart),
                     c.spec.significant, shutdown_word(c.spec.shutdown),
                     c.spec.kind == child_kind::worker ? "worker" : "supervisor",
                     manners[static_cast<std::size_t>(c.how)]);
}

template <class T, class Print>
std::string list(const std::vector<T>& of, Print print) {
  std::string out;
  for (const auto& one : of) out += (out.empty() ? "" : ",") + print(one);
  return "[" + out + "]";
}

std::string term(const scripted_act& a, bool is_dynamic) {
  const auto within = [&] {
    return list(a.within, [&](const auto& w) { return term(w, is_dynamic); });
  };
  switch (a.what) {
    case deed::die:
      return fmt::format("{{die,{},{}}}", a.id, a.how);
    case deed::fail:
      return fmt::format("{{fail,{},{},{}}}", a.id, a.times, within());
    case deed::ignore:
      return fmt::format("{{ignore,{},{},[]}}", a.id, a.times);
    case deed::start:
      return is_dynamic ? fmt::format("{{add,{}}}", a.id)
                        : fmt::format("{{start,{}}}", term(a.child));
    case deed::terminate:
      return fmt::format("{{{},{}}}", is_dynamic ? "terminate_address" : "terminate", a.id);
    case deed::restart:
      return fmt::format("{{restart,{}}}", a.id);
    case deed::remove:
      return fmt::format("{{delete,{}}}", a.id);
    case deed::spec:
      return fmt::format("{{spec,{}}}", a.id);
    case deed::which:
      return "which";
    case deed::count:
      return "count";
  }
  return "which";
}

}  // namespace

supervisor_script draw_script(std::uint64_t seed) { return author{seed}.write(); }

std::string to_erlang(const supervisor_script& s) {
  constexpr std::array ends{"never", "any_significant", "all_significant"};
  const auto armed = [](const scripted_act& a) {
    return fmt::format("{{{},{},{}}}", a.what == deed::fail ? "fail" : "ignore", a.id, a.times);
  };
  const auto step = [&](const std::vector<scripted_act>& acts) {
    return list(acts, [&](const auto& a) { return term(a, s.is_dynamic()); });
  };
  return fmt::format("{{script,{},{},{},{},{},{},{}}}.\n", s.seed, to_string(s.flags.how),
                     s.flags.intensity, ends[static_cast<std::size_t>(s.flags.ends)],
                     list(s.children, [](const auto& c) { return term(c); }), list(s.armed, armed),
                     list(s.steps, step));
}

}  // namespace ntrace::test
