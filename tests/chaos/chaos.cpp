#include "tests/chaos/chaos.hpp"

#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <map>

#include "tests/chaos/judgement.hpp"
#include "tests/chaos/killer.hpp"
#include "tests/chaos/load.hpp"
#include "tests/chaos/resources.hpp"
#include "tests/chaos/zone_census.hpp"

namespace ntrace::chaos {
namespace {

using nlohmann::json;

constexpr milliseconds look{100}, sample_every{1'000}, say_every{10'000};
constexpr std::uint64_t gap_least_ms = 300, gap_most_ms = 1'300;

json by_kind(const std::vector<struck>& all) {
  std::map<std::string, std::vector<std::int64_t>> times;
  std::map<std::string, std::uint64_t> counts;
  for (const auto& one : all) {
    ++counts[one.kind];
    if (one.recovered.count() >= 0) times[one.kind].push_back(one.recovered.count());
  }
  auto out = json::array();
  for (const auto& [kind, n] : counts) {
    auto& list = times[kind];
    std::sort(list.begin(), list.end());
    const auto at = [&](double share) -> std::int64_t {
      if (list.empty()) return -1;
      return list[static_cast<std::size_t>(share * static_cast<double>(list.size() - 1) + 0.5)];
    };
    out.push_back({{"kind", kind},
                   {"count", n},
                   {"median_ms", at(0.5)},
                   {"p99_ms", at(0.99)},
                   {"worst_ms", at(1)}});
  }
  return out;
}

/// Everything that was pushed has ended, nothing waits in an outbox, and every worker is free.
bool is_all_done(fleet& all) {
  const auto status = all.ask(0, "status");
  if (!status || status->value("open", 1) != 0) return false;
  if (status->value("invariants", json::object()).value("lines_behind", 1) != 0) return false;
  for (std::size_t i = 1; i < fleet::nodes; ++i)
    if (const auto held = count(all.data(i) + "/outbox.sqlite", "select count(*) from attempt");
        !held || *held != 0)
      return false;
  for (std::size_t i = 1; i < fleet::nodes; ++i) {
    const auto workers = all.ask(i, "workers");
    if (!workers) return false;
    for (const auto& w : *workers)
      if (w.value("state", "") != "free") return false;
  }
  return true;
}

/// Mounts of its own, which go with the process. The helpers' copies of them follow.
result<void> leave_the_machines_mounts() {
  if (::geteuid() != 0)
    return fail(ec::zone_unsupported, "chaos needs root: it makes networks, disks and zones");
  if (::unshare(CLONE_NEWNS) != 0 ||
      ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount(nullptr, "/", nullptr, MS_REC | MS_SHARED, nullptr) != 0)
    return fail(io_error("make a mount namespace", "chaos", errno));
  return {};
}

/// One run of a fleet that is up: shaken, left to heal, judged.
class trial {
public:
  trial(fleet& all, const chaos_options& options)
      : all_{all},
        options_{options},
        random_{options.seed},
        chaos_{all, random_.next(), began_, options.only},
        pushes_{all} {}

  /// Faults for as long as they are to last.
  void shake() {
    time_point next_strike = began_, next_sample = began_, next_word = began_ + say_every;
    while (since(began_) < options_.lasts && goes_on()) {
      const auto now = steady_clock::now();
      if (now >= next_strike) {
        chaos_.strike();
        next_strike = now + milliseconds{gap_least_ms + random_.below(gap_most_ms - gap_least_ms)};
      }
      if (now >= next_sample) {
        for (std::size_t i = 0; i < fleet::nodes; ++i)
          used_[i].sample(all_.server(i), all_.disk(i));
        next_sample = now + sample_every;
      }
      if (now >= next_word) {
        say(std::to_string(since(began_).count() / 1000) +
            " s: " + std::to_string(chaos_.log().size()) + " faults");
        next_word = now + say_every;
      }
      wait(look);
    }
    chaos_.wait();
    say("faults are over, " + std::to_string(chaos_.log().size()) + " of them; all is to end well");
  }

  /// Until all that was pushed has ended, or the time for that is over.
  void heal() {
    pushes_.finish();
    const auto quiet = steady_clock::now();
    is_done_ = is_all_done(all_);
    for (; goes_on() && !is_done_ && since(quiet) < options_.heals; is_done_ = is_all_done(all_))
      wait(look);
    figures_["all_done_ms"] = since(quiet).count();
  }

  bool is_cancelled() const { return is_cancelled_; }

  /// Ends all processes, and gives the figures.
  json judge() {
    if (!is_done_) {
      const auto status = all_.ask(0, "status");
      judgement_.add("L1", "not all was done " + std::to_string(options_.heals.count() / 1000) +
                               " s after the last fault: " +
                               (status ? status->dump() : to_string(status.error())));
    }
    figures_["restarts"] = restarts();
    judgement_.judge_processes(all_, is_done_);
    judgement_.judge(all_, pushes_, figures_);
    for (const auto& [rule, how] : chaos_.broken()) judgement_.add(rule, how);
    judge_census();
    for (const auto& one : chaos_.unmended()) judgement_.add("unmended", one);
    for (const auto& death : chaos_.deaths()) judgement_.add("death", death);
    figures_["faults"] = faults();
    figures_["processes"] = processes();
    auto skipped = json::array();
    for (const auto& [kind, why] : chaos_.skipped())
      skipped.push_back({{"kind", kind}, {"why", why}});
    std::map<std::string, std::uint64_t> missed;
    for (const auto& [kind, why] : chaos_.failed()) ++missed[kind + ": " + why];
    figures_["seed"] = options_.seed;
    figures_["only"] = options_.only;
    figures_["lasted_ms"] = options_.lasts.count();
    figures_["kinds"] = by_kind(chaos_.log());
    figures_["missed"] = missed;
    figures_["skipped"] = std::move(skipped);
    figures_["pushes_acknowledged"] = pushes_.acknowledged().size();
    figures_["pushes_refused"] = pushes_.refused();
    figures_["consumed"] = pushes_.consumed();
    figures_["violations"] = judgement_.violations();
    return std::move(figures_);
  }

private:
  void judge_census() {
    census_.end();
    figures_["repositories_seen_in_zones"] = census_.seen();
    for (const auto& [repository, how] : census_.doubles())
      judgement_.add("S4", "two attempts at " + repository + " were alive at once: " + how);
  }

  void say(const std::string& line) const {
    if (options_.progress) options_.progress(line);
  }

  bool goes_on() {
    is_cancelled_ = is_cancelled_ || (options_.is_cancelled && options_.is_cancelled());
    return !is_cancelled_;
  }

  std::int64_t restarts() {
    std::int64_t out = 0;
    for (std::size_t i = 0; i < fleet::nodes; ++i)
      if (const auto status = all_.ask(i, "status"))
        out +=
            status->value("gauges", json::object()).value("supervisor_restarts", std::int64_t{0});
    return out;
  }

  json faults() {
    auto out = json::array();
    for (const auto& one : chaos_.log()) {
      out.push_back({{"kind", one.kind},
                     {"target", all_.server(one.node).name()},
                     {"at_ms", one.at.count()},
                     {"lasted_ms", one.lasted.count()},
                     {"recovered_ms", one.recovered.count()}});
      if (one.recovered.count() < 0)
        judgement_.add("recovery", all_.server(one.node).name() + " was not well a minute after " +
                                       one.kind + " at " + std::to_string(one.at.count()) + " ms");
    }
    return out;
  }

  json processes() {
    auto out = json::array();
    for (std::size_t i = 0; i < fleet::nodes; ++i) {
      out.push_back(used_[i].summary(all_.server(i).name()));
      if (const auto grown = used_[i].growth(); !grown.empty())
        judgement_.add("resources", all_.server(i).name() + ": " + grown);
    }
    return out;
  }

  fleet& all_;
  const chaos_options& options_;
  const time_point began_ = steady_clock::now();
  json figures_ = json::object();
  judgement judgement_;
  std::array<resources, fleet::nodes> used_;
  random_source random_;
  killer chaos_;
  zone_census census_{load::mark()};
  load pushes_;
  bool is_done_ = false, is_cancelled_ = false;
};

}  // namespace

void unmount(const std::string& path) { ::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW); }

result<json> run(const chaos_options& options) {
  if (const auto name = killer::unknown(options.only); !name.empty())
    return fail(ec::bad_argument, "no fault is called " + name + "; docs/chaos.md lists them");
  if (auto own = leave_the_machines_mounts(); !own) return fail(own.error());
  const auto all = fleet::make(options);
  if (!all) return fail(all.error());
  if (options.progress)
    options.progress("the fleet is up: a dispatcher, " + std::to_string(fleet::runners) +
                     " runners, " + std::to_string(fleet::runners * fleet::workers) + " workers");
  trial one{**all, options};
  one.shake();
  one.heal();
  if (one.is_cancelled()) return fail(ec::cancelled, "chaos was interrupted; nothing was judged");
  return one.judge();
}

}  // namespace ntrace::chaos
