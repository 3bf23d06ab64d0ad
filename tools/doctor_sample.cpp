#include "tools/doctor_sample.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include "actors/profiler/fold_perf.hpp"
#include "actors/profiler/sampler_perf.hpp"
#include "config/subprocess.hpp"

namespace ntrace::tools {
namespace {

constexpr milliseconds program_deadline{20'000};  // of a program that needs a third of a second
constexpr std::uint64_t text_max = 64u << 20;  // bytes of `perf script`; a sample has some hundred
// 300 ms at 999 Hz are about 300 samples: enough to be sure that sampling works.
constexpr const char* program =
    "function spin(n) { let x = 0; for (let i = 0; i < n; i++) x = (x * 31 + i) | 0; return x; }"
    "const end = Date.now() + 300; let x = 0; while (Date.now() < end) x += spin(1e5);";

/// Runs it as the job's user, with the environment that gives perf maps.
result<void> spin(zone::zone& zone) {
  const auto ended = zone.exec(
      {{"node", "-e", program},
       {"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/home/job",
        "NODE_OPTIONS=" + profiler::sampler_perf::node_options("")},
       "/job",
       program_deadline},
      {}, [](std::string_view, std::string_view) {}, nullptr, -1);
  if (!ended) return fail(ended.error());
  if (!ended->ok()) return fail(ec::profile_failed, "node cannot run the program to be sampled");
  return {};
}

/// As an attempt does: perf's capture becomes text inside the zone and is folded outside.
result<profiler::folding> fold_in_zone(zone::zone& zone, const profiler::raw_capture& capture) {
  const auto maps = zone.collect("/tmp", "perf-");
  if (!maps) return fail(maps.error());
  profiler::fold_options options;
  for (const auto& [host, inside] : capture.zone_pids)
    if (const auto at = maps->files.find(fmt::format("perf-{}.map", inside));
        at != maps->files.end())
      options.maps[host].add(at->second);
  options.kernel = profiler::host_kernel_symbols();
  profiler::perf_folder folder{options};
  profiler::perf_feed feed{folder};
  result<void> fed{};
  std::string words;
  const auto printed = zone.exec(
      {profiler::sampler_perf::script_command(),
       {"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp"},
       "/tmp",
       program_deadline,
       false,
       true},
      {text_max, text_max},
      [&](std::string_view stream, std::string_view data) {
        if (stream != "stdout")
          words.append(data.substr(0, 300));
        else if (fed)
          fed = feed.on_bytes(data);
      },
      nullptr, capture.data.get());
  if (!printed) return fail(printed.error());
  if (!printed->ok()) return fail(ec::profile_failed, "perf script failed: " + words);
  if (fed) fed = feed.finish();
  if (!fed) return fail(fed.error());
  return folder.finish();
}

}  // namespace

result<seen_sample> take_one_sample(zone::zone& zone, const std::string& scratch) {
  auto sampler = profiler::sampler_perf::start({zone.cgroup_path(), zone.init_pid(), 999, scratch});
  if (!sampler) return fail(sampler.error());
  if (auto enabled = (*sampler)->enable(); !enabled) return fail(enabled.error());
  if (auto spun = spin(zone); !spun) return fail(spun.error());
  const auto capture = (*sampler)->stop();
  if (!capture) return fail(capture.error());
  const auto folded = fold_in_zone(zone, *capture);
  if (!folded) return fail(folded.error());
  seen_sample out{folded->report.samples, capture->event, "", false};
  if (out.samples == 0)
    return fail(ec::profile_failed, "perf took no sample of a program that computes for 300 ms");
  for (const auto& row : hottest_frames(folded->stacks, 20)) {
    if (out.hottest.empty()) out.hottest = row.name;
    out.names_spin = out.names_spin || row.name.starts_with("spin");
  }
  return out;
}

std::string sampling_advice() {
  subprocess_spec perf;
  perf.argv = {"perf", "--version"};
  perf.deadline = milliseconds{10'000};
  if (const auto there = run_subprocess(perf); !there || !there->ok())
    return "apt-get install linux-perf";
  return ::geteuid() == 0 ? "a kernel with perf events, and CAP_PERFMON in this container"
                          : "sysctl -w kernel.perf_event_paranoid=2, or run as root";
}

}  // namespace ntrace::tools
