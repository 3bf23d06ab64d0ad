// Dispatcher and runner as real processes, with real zones, under load: killed with SIGKILL at
// named points (config/crash_point.hpp) and at random moments. The history that the journal and
// the clients tell afterwards is judged by the simulator's checker.
#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <iostream>
#include <thread>

#include "config/sqlite.hpp"
#include "tests/support/journal_history.hpp"
#include "tests/support/program_parts.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;
using namespace ntrace::test;
using namespace std::chrono_literals;

namespace {

const std::vector<std::string> dispatcher_points{
    "journal.before_commit",    "journal.in_transaction", "journal.after_commit",
    "dispatcher.before_answer", "intake.before_answer",   "dispatcher.before_offer",
    "dispatcher.recovered"};
const std::vector<std::string> runner_points{"outbox.before_write",    "outbox.after_write",
                                             "outbox.acknowledged",    "outbox.delivered",
                                             "runner.before_accept",   "runner.accepted",
                                             "runner.before_zone_end", "runner.before_heartbeat",
                                             "attempt.zone_is_up",     "attempt.before_verdict"};
// A point that is not passed by then is a random moment; a runner's takes a run to come by.
constexpr auto dispatcher_patience = 800ms, runner_patience = 4000ms;
constexpr auto push_pause = 350ms;

/// Kills of one test; CI's two tests make 500 together.
int kills_wanted() {
  const char* text = std::getenv("NTRACE_KILLS");
  return text ? std::atoi(text) : 250;
}

/// A server that is ended and started again and again.
class victim {
public:
  victim(std::string role, std::vector<std::string> words, std::vector<std::string> points,
         milliseconds patience, random_source& random)
      : role_{std::move(role)},
        words_{std::move(words)},
        points_{std::move(points)},
        patience_{patience},
        random_{random} {}
  ~victim() { kill(); }
  victim(const victim&) = delete;
  victim& operator=(const victim&) = delete;

  void start(bool is_doomed) {
    subprocess_spec spec;
    spec.argv = {program_path(), role_};
    spec.argv.insert(spec.argv.end(), words_.begin(), words_.end());
    point_.clear();
    deadline_ = steady_clock::now() + milliseconds{random_.below(500)};
    if (is_doomed && random_.below(3) != 0) {
      // The one that it died at least often.
      point_ = *std::min_element(points_.begin(), points_.end(),
                                 [&](const auto& a, const auto& b) { return kills[a] < kills[b]; });
      spec.env = {"NTRACE_CRASH=" + point_ + ":" + std::to_string(1 + random_.below(2))};
      deadline_ = steady_clock::now() + patience_;
    }
    const unique_fd log{::open((words_[1] + "/" + role_ + ".log").c_str(),
                               O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)};
    pid_ = ok(spawn_guarded(spec, -1, log.get(), log.get()));
  }
  /// Ends it when its time has come; true when it died since it was asked last.
  bool has_died() {
    if (pid_ <= 0) return true;
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == 0) {
      if (steady_clock::now() < deadline_) return false;
      kill();
      ++kills["at a random moment"];
      return true;
    }
    pid_ = -1;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && !point_.empty())
      ++kills[point_];
    else
      failures += role_ + " ended by itself, status " + std::to_string(status) + "\n";
    return true;
  }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  int stop() {
    ::kill(pid_, SIGTERM);
    int status = -1;
    eventually(30s, [&] { return ::waitpid(pid_, &status, WNOHANG) != 0; });
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  /// Points at which it has not died yet.
  std::string untried() const {
    std::string out;
    for (const auto& point : points_)
      if (const auto at = kills.find(point); at == kills.end() || at->second == 0)
        out += point + " ";
    return out;
  }
  std::string log() const { return read_file(words_[1] + "/" + role_ + ".log").value_or(""); }

  std::map<std::string, int> kills;
  std::string failures;

private:
  std::string role_;
  std::vector<std::string> words_, points_;
  milliseconds patience_;
  random_source& random_;
  std::string point_;
  time_point deadline_{};
  int pid_ = -1;
};

/// Pushes with a key each, again until it is answered, and takes some of them back.
class client {
public:
  client(std::string to, std::string source) : to_{std::move(to)}, source_{std::move(source)} {}

  /// Until `stop`; then until everything that was begun is acknowledged.
  void work(const std::future<void>& stop) {
    for (int n = 0; stop.wait_for(push_pause) != std::future_status::ready; ++n) {
      push("key" + std::to_string(n));
      if (n % 3 != 0 && !acked.empty()) cancel(acked.back().first);
    }
  }

  std::vector<std::pair<std::string, std::string>> acked;  ///< Run and key.
  std::vector<std::string> cancelled;
  std::size_t refused = 0;

private:
  result<json> call(const char* method, const json& args) {
    auto c = net::rpc_client::connect(ok(parse_host_port(to_)));
    if (!c) return fail(c.error());
    return c->call(method, args, 3s);
  }
  void push(const std::string& key) {
    eventually(60s, [&] {
      const auto got =
          call("push", json::array({"o", "r", sha, {{"key", key}, {"source", source_}}}));
      if (!got) return ++refused, false;
      acked.emplace_back(got->value("run", ""), key);
      return true;
    });
  }
  void cancel(const std::string& run) {
    if (call("cancel", json::array({run}))) cancelled.push_back(run);
  }
  std::string to_, source_;
};

std::uint64_t outbox_attempts(const std::string& path) {
  auto db = ok(sqlite::connection::open({"the outbox", ""}, path, sqlite::role::reader, {}));
  sqlite::statement s{*db, "select count(*) from attempt"};
  return ok(s.step()) ? s.count(0) : 0;
}

/// Violations of the invariants in the history that journal, clients and outbox tell.
std::string judge(const std::string& data, const client& c) {
  check_options options;
  options.attempts = 50;
  options.chunks_name_tokens = false;
  invariant_checker checker{options};
  for (const auto& f : ok(journal_history(data + "/journal.sqlite"))) checker.on(f);
  fact told;
  told.kind = fact_kind::acked;
  for (const auto& [run, key] : c.acked) {
    told.run = run;
    told.text = key;
    checker.on(told);
  }
  told.kind = fact_kind::cancel_acked;
  for (const auto& run : c.cancelled) {
    told.run = run;
    checker.on(told);
  }
  told.kind = fact_kind::finished;
  told.n = {outbox_attempts(data + "/outbox.sqlite"), 0, 0, 0, 0, 0};
  checker.on(told);
  std::string out;
  for (const auto& v : checker.violations()) out += v.invariant + ": " + v.what + "\n";
  for (const char* needed :
       {"S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S13", "S14", "S15", "S18", "L1", "L5"})
    if (const auto at = checker.met().find(needed); at == checker.met().end())
      out += std::string{needed} + " was not put to the test\n";
  return out;
}

void storm(std::uint64_t round) {
  NTRACE_NEEDS_ZONES();
#ifndef NTRACE_CRASH_POINTS
  GTEST_SKIP() << "this build has no crash points";
#endif
  seeded s;
  for (auto skipped = round; skipped > 0; --skipped) s.random.next();
  const scratch dir;
  const auto data = dir / "data";
  std::filesystem::create_directories(data);
  dir.file("job/package.json", R"({"name":"job","scripts":{"benchmark":"echo done"}})");
  const auto to = "127.0.0.1:" + std::to_string(free_port());
  const std::vector<std::string> words{
      "--data",     data,   "--dispatcher",     to,    "--runner",         "127.0.0.1:0",
      "--workers",  "2",    "--backoff-min-ms", "10",  "--backoff-max-ms", "100",
      "--lease-ms", "1200", "--offer-ms",       "300", "--attempts",       "50"};
  victim dispatcher{"dispatcher", words, dispatcher_points, dispatcher_patience, s.random};
  victim runner{"runner", words, runner_points, runner_patience, s.random};
  client c{to, dir / "job"};
  std::promise<void> stop;
  dispatcher.start(false);
  runner.start(false);
  std::thread load{[&, until = stop.get_future()] { c.work(until); }};
  int kills = 0;
  const auto wanted = kills_wanted();
  const auto is_enough = [&] {
    return kills >= wanted && dispatcher.untried().empty() && runner.untried().empty();
  };
  eventually(
      2s * wanted + 60s,
      [&] {
        for (auto* v : {&dispatcher, &runner})
          if (v->has_died()) {
            ++kills;
            v->start(true);
          }
        return is_enough();
      },
      [&] {
        return std::to_string(kills) + " kills, none yet at " + dispatcher.untried() +
               runner.untried();
      });
  for (auto* v : {&dispatcher, &runner}) {
    v->kill();
    v->start(false);
  }
  const auto stormed = steady_clock::now();
  stop.set_value();
  load.join();
  EXPECT_GE(kills, wanted);
  std::string open;
  json invariants;
  eventually(
      400s,
      [&] {
        auto client = net::rpc_client::connect(ok(parse_host_port(to)));
        if (!client) return false;
        const auto status = client->call("status", json::array(), 3s);
        open = status ? status->value("open", json()).dump() : to_string(status.error());
        if (status) invariants = status->value("invariants", json::object());
        return open == "0" && outbox_attempts(data + "/outbox.sqlite") == 0 &&
               invariants.value("lines_behind", 1) == 0;
      },
      [&] { return open + " are open\n" + dispatcher.log() + runner.log(); });
  EXPECT_EQ(runner.stop(), 0) << runner.log();
  EXPECT_EQ(dispatcher.stop(), 0) << dispatcher.log();
  std::cout << kills << " kills, " << c.acked.size() << " pushes acknowledged, " << c.refused
            << " tries refused, " << c.cancelled.size()
            << " cancelled, in the end all was done within "
            << std::chrono::duration_cast<milliseconds>(steady_clock::now() - stormed).count()
            << " ms\n";
  for (const auto* v : {&dispatcher, &runner}) {
    EXPECT_EQ(v->failures, "") << v->log();
    for (const auto& [point, n] : v->kills) std::cout << "  " << point << ": " << n << "\n";
    EXPECT_TRUE(v->untried().empty() || wanted < 200) << "nothing died at " << v->untried();
  }
  EXPECT_EQ(judge(data, c), "");
  // The live monitor saw the same, in each life of the dispatcher.
  EXPECT_GT(invariants.value("runs_checked", 0), 0) << invariants;
  EXPECT_EQ(dispatcher.log().find("invariant.violated"), std::string::npos) << dispatcher.log();
  const auto checked = run_ntrace({"journal", "check", data + "/journal.sqlite"});
  EXPECT_EQ(checked.exit_code, 0) << checked.out << checked.err;
  EXPECT_EQ(leftovers(data), "");
}

}  // namespace

TEST(crash, loses_nothing_and_tells_the_truth_over_kills_at_every_point) { storm(0); }
TEST(crash, does_so_with_another_seed_at_the_same_time) { storm(1); }
