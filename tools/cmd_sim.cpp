// sim: the whole system in virtual time under faults, held against every invariant.
#include <fmt/core.h>
#include <iostream>
#include <thread>

#include "config/subprocess.hpp"
#include "tests/sim/replay.hpp"
#include "tests/sim/simulation.hpp"
#include "tools/command.hpp"

namespace ntrace::tools {
namespace {

struct sim_args {
  std::uint64_t seed = 1, runs = 1;
  double minutes = 0;
  std::string faults, archive;
  unsigned pushes = ~0u, processes = 0;
  bool as_json = false, shows_history = false, shows_coverage = false;
};

std::vector<unsigned> numbers_in(const std::string& list) {
  std::vector<unsigned> out;
  std::istringstream in{list};
  for (std::string one; std::getline(in, one, ',');)
    if (!one.empty()) out.push_back(static_cast<unsigned>(std::strtoul(one.c_str(), nullptr, 10)));
  return out;
}

std::string command_of(const sim::run_options& o) {
  std::string faults;
  for (const auto n : o.faults.value_or(std::vector<unsigned>{}))
    faults += (faults.empty() ? "" : ",") + std::to_string(n);
  std::string out = fmt::format("ntrace sim --seed {} --history", o.seed);
  if (o.faults) out += " --faults '" + faults + "'";
  if (o.pushes_max != ~0u) out += " --pushes " + std::to_string(o.pushes_max);
  return out;
}

/// One seed in full: its history, its faults, what it broke.
int one_run(const sim_args& a) {
  sim::run_options o;
  o.seed = a.seed;
  o.pushes_max = a.pushes;
  if (a.faults != "all") o.faults = numbers_in(a.faults);
  o.keeps_history = a.shows_history;
  const auto r = sim::simulate(o);
  for (const auto& line : r.history) std::cout << line << "\n";
  for (const auto& f : r.faults)
    std::cout << "fault " << f.number << ": " << f.at.count() << " ms " << to_string(f.kind)
              << " of runner " << f.target << " for " << f.lasts.count() << " ms\n";
  for (const auto& v : r.violations)
    std::cout << "violation " << v.invariant << ": " << v.what << "\n";
  std::cout << "seed " << a.seed << ", steps " << r.steps << ", digest " << r.digest << "\n"
            << "runs 1, violations " << r.violations.size() << "\n";
  return r.violations.empty() ? 0 : 1;
}

/// Finds the fewest faults and pushes that break it, and prints them.
sim::run_options show_shrunk(const sim::run_options& failing, const std::string& invariant) {
  const auto small = sim::shrink(failing, invariant);
  const auto again = sim::simulate(small);
  std::cout << "shrunk to " << again.faults.size() << " faults and " << again.pushes
            << " pushes:\n";
  for (const auto& f : again.faults)
    std::cout << "  " << f.at.count() << " ms " << to_string(f.kind) << " of runner " << f.target
              << " for " << f.lasts.count() << " ms\n";
  for (const auto& w : again.violations) std::cout << "  " << w.invariant << ": " << w.what << "\n";
  return small;
}

/// The first seed that failed, shrunk, with the command that repeats it.
void explain(std::uint64_t seed) {
  sim::run_options o;
  o.seed = seed;
  const auto first = sim::simulate(o);
  if (first.violations.empty()) return;
  const auto& v = first.violations.front();
  std::cout << "seed " << seed << " breaks " << v.invariant << ": " << v.what << "\n";
  std::cout << "of " << first.faults.size() << " faults and " << first.pushes << " pushes ";
  std::cout << "repeat with: " << command_of(show_shrunk(o, v.invariant)) << "\n";
}

/// A recorded incident of `ntrace chaos`. Seeds decide what the record does not have: the times of
/// pushes, and the order of events at the same moment.
int replay(const sim_args& a) {
  subprocess_spec spec;
  spec.argv = {"tar", "-xzOf", a.archive, "./figures.json"};
  spec.output_bytes_max = 64u << 20;
  const auto unpacked = run_subprocess(spec);
  const auto figures =
      unpacked && unpacked->ok() ? json::parse(unpacked->out, nullptr, false) : json();
  if (!figures.is_object())
    return report({ec::bad_argument, a.archive + " is no evidence of `ntrace chaos`", {}},
                  a.as_json);
  sim::run_options o;
  o.plan = sim::plan_of(figures, sim::fault_phase);
  std::uint64_t failed = 0, runs = 0;
  for (o.seed = a.seed; runs < a.runs && failed == 0; ++o.seed, ++runs) {
    const auto seen = sim::simulate(o).violations;
    if (seen.empty()) continue;
    ++failed;
    std::cout << "seed " << o.seed << " breaks " << seen.front().invariant << ": "
              << seen.front().what << "\n";
    show_shrunk(o, seen.front().invariant);
  }
  std::cout << "replayed " << o.plan->size() << " of " << figures["faults"].size()
            << " faults with " << runs << " seeds, violations " << failed << "\n";
  return failed == 0 ? 0 : 1;
}

int many_runs(const sim_args& a) {
  const auto processes =
      a.processes != 0 ? a.processes : std::max(1u, std::thread::hardware_concurrency());
  const auto end = steady_clock::now() + std::chrono::duration<double>(a.minutes * 60);
  sim::campaign all;
  std::uint64_t next = a.seed;
  const auto batch = a.minutes > 0 ? std::max<std::uint64_t>(a.runs, 1000) : a.runs;
  do {
    const auto part = sim::simulate_forked(next, batch, processes);
    next += batch;
    all.runs += part.runs;
    all.steps += part.steps;
    all.failed += part.failed;
    all.lost += part.lost;
    if (!all.first_failing) all.first_failing = part.first_failing;
    for (const auto& [what, n] : part.seen) all.seen[what] += n;
  } while (steady_clock::now() < end && all.failed + all.lost == 0);
  const auto missing = sim::missing_coverage(all.seen);
  if (a.as_json) {
    std::cout << json{{"runs", all.runs},
                      {"steps", all.steps},
                      {"violations", all.failed},
                      {"lost", all.lost},
                      {"coverage", all.seen},
                      {"never_met", missing},
                      {"first_failing_seed", all.first_failing ? json(*all.first_failing) : json()}}
                     .dump()
              << "\n";
  } else {
    if (a.shows_coverage)
      for (const auto& [what, n] : all.seen) std::cout << n << "\t" << what << "\n";
    if (all.first_failing) explain(*all.first_failing);
    if (all.runs >= 10'000)
      for (const auto& m : missing) std::cout << "never met: " << m << "\n";
    if (all.lost != 0)
      std::cout << "a process of the simulator died; runs without an outcome: " << all.lost << "\n";
    std::cout << "runs " << all.runs << ", violations " << all.failed << "\n";
  }
  return all.failed + all.lost == 0 && (all.runs < 10'000 || missing.empty()) ? 0 : 1;
}

}  // namespace

void add_sim(cli::app app, outcome& out) {
  const auto sub = app.add_subcommand(
      "sim", "The whole system in virtual time under faults, held against every invariant");
  auto a = std::make_shared<sim_args>();
  sub.add_option("--seed", a->seed, "first seed").capture_default_str();
  sub.add_option("--runs", a->runs, "seeds to run, one after the other")
      .check(cli::range(std::uint64_t{1}, std::uint64_t{1'000'000'000}))
      .capture_default_str();
  sub.add_option("--minutes", a->minutes, "go on with further seeds for so many minutes")
      .type_name("MINUTES");
  sub.add_option("--processes", a->processes, "0: one for each CPU").capture_default_str();
  a->faults = "all";
  sub.add_option("--faults", a->faults, "with one run: only these of the plan, by number")
      .type_name("LIST");
  sub.add_option("--pushes", a->pushes, "with one run: at most so many pushes");
  sub.add_option("--replay", a->archive,
                 "the faults of this evidence of `ntrace chaos`, with each of the seeds")
      .type_name("FILE")
      .check(cli::existing_file());
  sub.add_flag("--history", a->shows_history, "with one run: print each fact");
  sub.add_flag("--coverage", a->shows_coverage, "print how often each case was met");
  sub.add_flag("--json", a->as_json, "print JSON");
  sub.callback([&out, a] {
    out.run = [a] {
      if (!a->archive.empty()) return replay(*a);
      return a->runs == 1 && a->minutes == 0 ? one_run(*a) : many_runs(*a);
    };
  });
}

}  // namespace ntrace::tools
