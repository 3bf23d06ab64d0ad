#include "tests/chaos/chaos.hpp"

#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <map>
#include <sstream>

#include "config/sqlite.hpp"
#include "tests/chaos/killer.hpp"
#include "tests/chaos/load.hpp"
#include "tests/support/journal_history.hpp"
#include "tests/support/leftovers.hpp"

namespace ntrace::chaos {
namespace {

using nlohmann::json;

constexpr milliseconds look{100}, sample_every{1'000}, say_every{10'000};
constexpr std::uint64_t gap_least_ms = 300, gap_most_ms = 1'300;
constexpr milliseconds stop_max{40'000}, reap_max{15'000};
constexpr std::uint64_t attempts_max = 100;  // as the fleet's dispatcher is told

void wait(milliseconds time) { ::poll(nullptr, 0, static_cast<int>(time.count())); }

milliseconds since(time_point began) {
  return std::chrono::duration_cast<milliseconds>(steady_clock::now() - began);
}

std::size_t entries(const std::string& folder) {
  std::error_code gone;
  std::size_t out = 0;
  for ([[maybe_unused]] const auto& one : std::filesystem::directory_iterator{folder, gone}) ++out;
  return out;
}

/// Children that ended and were not waited for.
std::int64_t zombies_of(const std::string& proc) {
  std::error_code gone;
  std::int64_t out = 0;
  for (const auto& task : std::filesystem::directory_iterator{proc + "/task", gone}) {
    std::istringstream children{read_file(task.path().string() + "/children").value_or("")};
    for (std::string pid; children >> pid;) {
      const auto stat = read_file("/proc/" + pid + "/stat").value_or("");
      const auto at = stat.rfind(") ");
      if (at != std::string::npos && stat.compare(at, 3, ") Z") == 0) ++out;
    }
  }
  return out;
}

std::int64_t kib_used(const std::string& disk) {
  struct statvfs facts {};
  if (::statvfs(disk.c_str(), &facts) != 0) return 0;
  return static_cast<std::int64_t>((facts.f_blocks - facts.f_bfree) * facts.f_frsize / 1024);
}

/// What one process holds over time; a new incarnation begins anew.
class resources {
public:
  void sample(const process& of, const std::string& disk) {
    const int pid = of.pid();
    if (pid <= 0) return;
    if (pid != pid_) all_.clear();
    pid_ = pid;
    const auto proc = "/proc/" + std::to_string(pid);
    const auto status = read_file(proc + "/status").value_or("");
    const auto at = status.find("VmRSS:");
    const auto rss =
        at == std::string::npos ? 0 : std::strtoll(status.c_str() + at + 6, nullptr, 10);
    if (rss > 0)
      all_.push_back({rss, static_cast<std::int64_t>(entries(proc + "/fd")),
                      static_cast<std::int64_t>(entries(proc + "/task")), zombies_of(proc),
                      kib_used(disk)});
  }
  json summary(const std::string& name) const {
    json out{{"name", name}, {"samples", all_.size()}};
    for (std::size_t what = 0; what < names.size(); ++what)
      out[names[what]] = {median(what, 0, all_.size() / 4 + 1),
                          median(what, all_.size() - all_.size() / 4 - 1, all_.size()), most(what)};
    return out;
  }

  /// What grew over a long life; empty when nothing did.
  std::string growth() const {
    constexpr std::size_t long_life = 300;  // samples, one a second
    // The disk holds what was pushed, and is bounded by itself.
    constexpr std::array<std::int64_t, 4> slack{16 << 10, 32, 16, 8};
    if (all_.size() < long_life) return "";
    std::string out;
    for (std::size_t what = 0; what < slack.size(); ++what) {
      const auto first = median(what, 0, all_.size() / 4 + 1);
      const auto last = median(what, all_.size() - all_.size() / 4 - 1, all_.size());
      if (last > first + first / 5 + slack[what])
        out += std::to_string(first) + " became " + std::to_string(last) + " " + names[what] + "; ";
    }
    return out;
  }

private:
  std::int64_t median(std::size_t what, std::size_t from, std::size_t to) const {
    std::vector<std::int64_t> part;
    for (auto i = from; i < std::min(to, all_.size()); ++i) part.push_back(all_[i][what]);
    if (part.empty()) return 0;
    std::nth_element(part.begin(), part.begin() + static_cast<std::ptrdiff_t>(part.size() / 2),
                     part.end());
    return part[part.size() / 2];
  }
  std::int64_t most(std::size_t what) const {
    std::int64_t out = 0;
    for (const auto& one : all_) out = std::max(out, one[what]);
    return out;
  }
  static constexpr std::array<const char*, 5> names{"rss_kib", "descriptors", "threads", "zombies",
                                                    "disk_kib"};
  int pid_ = -1;
  std::vector<std::array<std::int64_t, names.size()>> all_;
};

result<std::uint64_t> count(const std::string& path, const char* query) {
  auto db = sqlite::connection::open({path, ""}, path, sqlite::role::reader, {});
  if (!db) return fail(db.error());
  sqlite::statement s{**db, query};
  const auto row = s.step();
  if (!row) return fail(row.error());
  return *row ? s.count(0) : 0;
}

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

class verdict {
public:
  void add(std::string invariant, std::string what) {
    violations_.push_back({{"invariant", std::move(invariant)}, {"what", std::move(what)}});
  }
  /// The history that the journal and the client tell, by the simulator's checker.
  void judge(fleet& all, const load& pushes, json& figures) {
    const auto journal = all.data(0) + "/journal.sqlite";
    const auto history = test::journal_history(journal);
    if (!history) return add("journal", to_string(history.error()));
    test::check_options options;
    options.attempts = attempts_max;
    options.chunks_name_tokens = false;
    test::invariant_checker checker{options};
    for (const auto& f : *history) checker.on(f);
    test::fact told;
    told.kind = test::fact_kind::acked;
    for (const auto& [run, key] : pushes.acknowledged()) {
      told.run = run;
      told.text = key;
      checker.on(told);
    }
    told.kind = test::fact_kind::cancel_acked;
    for (const auto& run : pushes.cancelled()) {
      told.run = run;
      checker.on(told);
    }
    told.kind = test::fact_kind::finished;
    std::uint64_t held = 0;
    for (std::size_t i = 1; i < fleet::nodes; ++i)
      held += count(all.data(i) + "/outbox.sqlite", "select count(*) from attempt").value_or(1);
    told.n = {held, 0, 0, 0, 0, pushes.unanswered().size()};
    checker.on(told);
    for (const auto& v : checker.violations()) add(v.invariant, v.what);
    figures["met"] = checker.met();
    const auto verdicts = count(journal,
                                "select count(*) from run where state in "
                                "('done','failed','quarantined','cancelled')");
    const auto attempts = count(journal, "select count(*) from attempt");
    if (!verdicts || !attempts) return add("journal", "it cannot be counted");
    figures["verdicts"] = *verdicts;
    figures["retries"] = *attempts > *verdicts ? *attempts - *verdicts : 0;
    if (*verdicts < pushes.acknowledged().size())
      add("pushes", std::to_string(pushes.acknowledged().size()) + " were acknowledged, and " +
                        std::to_string(*verdicts) + " have a verdict");
  }
  const json& violations() const { return violations_; }

private:
  json violations_ = json::array();
};

std::string leftovers(fleet& all) {
  std::string out;
  for (std::size_t i = 1; i < fleet::nodes; ++i) out += test::leftovers(all.data(i));
  return out;
}

/// One that is not done would wait for what never ends: that is a violation already.
void judge_processes(fleet& all, bool is_done, verdict& out) {
  for (std::size_t i = fleet::nodes; i-- > 0;)
    if (!is_done)
      all.server(i).kill();
    else if (const int code = all.server(i).stop(stop_max); code != 0)
      out.add("stop", all.server(i).name() + " ended with " + std::to_string(code) +
                          " when it was asked to");
  for (std::size_t i = 0; i < fleet::nodes; ++i)
    for (const char* word : {"invariant.violated", "ntrace: defect"}) {
      const auto log = read_file(all.server(i).log(), 256u << 20).value_or("");
      if (const auto at = log.find(word); at != std::string::npos)
        out.add("log", all.server(i).name() + ": " + log.substr(at, log.find('\n', at) - at));
    }
  // The helper of who was killed ends its zones by itself.
  const auto asked = steady_clock::now();
  auto left = leftovers(all);
  for (; !left.empty() && since(asked) < reap_max; left = leftovers(all)) wait(look);
  if (!left.empty()) out.add("leftovers", left);
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

}  // namespace

void unmount(const std::string& path) { ::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW); }

result<json> run(const chaos_options& options) {
  if (const auto name = killer::unknown(options.only); !name.empty())
    return fail(ec::bad_argument, "no fault is called " + name + "; docs/chaos.md lists them");
  if (auto own = leave_the_machines_mounts(); !own) return fail(own.error());
  auto made = fleet::make(options);
  if (!made) return fail(made.error());
  auto& all = **made;
  const auto say = [&](const std::string& line) {
    if (options.progress) options.progress(line);
  };
  say("the fleet is up: a dispatcher, " + std::to_string(fleet::runners) + " runners, " +
      std::to_string(fleet::runners * fleet::workers) + " workers");
  const auto began = steady_clock::now();
  json figures{{"seed", options.seed}, {"only", options.only}};
  verdict judgement;
  std::array<resources, fleet::nodes> used;
  random_source random{options.seed};
  killer chaos{all, random.next(), began, options.only};
  load pushes{all};
  time_point next_strike = began, next_sample = began, next_word = began + say_every;
  bool is_cancelled = false;
  const auto goes_on = [&] {
    is_cancelled = is_cancelled || (options.is_cancelled && options.is_cancelled());
    return !is_cancelled;
  };
  while (since(began) < options.lasts && goes_on()) {
    const auto now = steady_clock::now();
    if (now >= next_strike) {
      chaos.strike();
      next_strike = now + milliseconds{gap_least_ms + random.below(gap_most_ms - gap_least_ms)};
    }
    if (now >= next_sample) {
      for (std::size_t i = 0; i < fleet::nodes; ++i) used[i].sample(all.server(i), all.disk(i));
      next_sample = now + sample_every;
    }
    if (now >= next_word) {
      say(std::to_string(since(began).count() / 1000) +
          " s: " + std::to_string(chaos.log().size()) + " faults");
      next_word = now + say_every;
    }
    wait(look);
  }
  chaos.wait();
  say("faults are over, " + std::to_string(chaos.log().size()) + " of them; all is to end well");
  pushes.finish();
  const auto quiet = steady_clock::now();
  bool is_done = is_all_done(all);
  for (; goes_on() && !is_done && since(quiet) < options.heals; is_done = is_all_done(all))
    wait(look);
  if (is_cancelled) return fail(ec::cancelled, "chaos was interrupted; nothing was judged");
  figures["all_done_ms"] = since(quiet).count();
  if (!is_done)
    judgement.add(
        "L1", "not all was done " + std::to_string(options.heals.count() / 1000) +
                  " s after the last fault: " + [&] {
                    const auto status = all.ask(0, "status");
                    return status ? status->dump() : to_string(status.error());
                  }());
  std::int64_t restarts = 0;
  for (std::size_t i = 0; i < fleet::nodes; ++i)
    if (const auto status = all.ask(i, "status"))
      restarts +=
          status->value("gauges", json::object()).value("supervisor_restarts", std::int64_t{0});
  figures["restarts"] = restarts;
  judge_processes(all, is_done, judgement);
  judgement.judge(all, pushes, figures);
  for (const auto& death : chaos.deaths()) judgement.add("death", death);
  auto faults = json::array();
  for (const auto& one : chaos.log()) {
    faults.push_back({{"kind", one.kind},
                      {"target", all.server(one.node).name()},
                      {"at_ms", one.at.count()},
                      {"lasted_ms", one.lasted.count()},
                      {"recovered_ms", one.recovered.count()}});
    if (one.recovered.count() < 0)
      judgement.add("recovery", all.server(one.node).name() + " was not well a minute after " +
                                    one.kind + " at " + std::to_string(one.at.count()) + " ms");
  }
  auto skipped = json::array();
  for (const auto& [kind, why] : chaos.skipped()) skipped.push_back({{"kind", kind}, {"why", why}});
  std::map<std::string, std::uint64_t> missed;
  for (const auto& [kind, why] : chaos.failed()) ++missed[kind + ": " + why];
  auto processes = json::array();
  for (std::size_t i = 0; i < fleet::nodes; ++i) {
    processes.push_back(used[i].summary(all.server(i).name()));
    if (const auto grown = used[i].growth(); !grown.empty())
      judgement.add("resources", all.server(i).name() + ": " + grown);
  }
  figures["lasted_ms"] = options.lasts.count();
  figures["faults"] = std::move(faults);
  figures["kinds"] = by_kind(chaos.log());
  figures["missed"] = missed;
  figures["skipped"] = std::move(skipped);
  figures["processes"] = std::move(processes);
  figures["pushes_acknowledged"] = pushes.acknowledged().size();
  figures["pushes_refused"] = pushes.refused();
  figures["consumed"] = pushes.consumed();
  figures["violations"] = judgement.violations();
  return figures;
}

}  // namespace ntrace::chaos
