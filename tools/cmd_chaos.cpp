// chaos: a fleet of real processes under a seeded killer, judged.
#include <fmt/core.h>
#include <unistd.h>

#include <filesystem>
#include <iostream>

#include "config/file.hpp"
#include "config/subprocess.hpp"
#include "config/temporary_folder.hpp"
#include "tests/chaos/chaos.hpp"
#include "tools/command.hpp"
#include "tools/serve.hpp"

namespace ntrace::tools {
namespace {

struct chaos_args {
  double minutes = 3;
  std::int64_t seconds = 0, heal_seconds = 180;
  std::uint64_t seed = 1;
  std::string folder = "/var/tmp", report;
  int plant = 0;
  std::vector<std::string> only;
  bool as_json = false;
};

/// The whole evidence as one archive; its path, or why there is none.
std::string keep_evidence(const std::string& folder, std::uint64_t seed, const json& figures) {
  if (auto written = write_file_durably(folder + "/figures.json", figures.dump()); !written)
    return "the evidence could not be kept: " + to_string(written.error());
  const auto archive =
      std::filesystem::current_path() / fmt::format("ntrace-chaos-{}.tar.gz", seed);
  subprocess_spec spec;
  spec.argv = {"tar", "-czf", archive, "--exclude=zones", "--exclude=*.key", "--exclude=ssh",
               "-C",  folder, "."};
  const auto done = run_subprocess(spec);
  return done && done->ok() ? "evidence: " + archive.string()
                            : "the evidence could not be kept: " + (done ? done->err : "no tar");
}

/// Everything that a run writes; taken away with it, disks that are still mounted there first.
class run_folder {
public:
  explicit run_folder(const std::string& parent) : own_{parent, "ntrace-chaos"} {}
  ~run_folder() {
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator{path(), none})
      ntrace::chaos::unmount(entry.path());
  }
  run_folder(const run_folder&) = delete;
  run_folder& operator=(const run_folder&) = delete;
  const std::string& path() const { return own_.path(); }

private:
  temporary_folder own_;
};

int chaos(const chaos_args& a) {
  block_signals();
  const run_folder own{a.folder};
  const auto& folder = own.path();
  if (folder.empty()) return report(io_error("make a folder below", a.folder, errno), a.as_json);
  std::filesystem::permissions(folder, std::filesystem::perms{0711});
  ntrace::chaos::chaos_options o;
  o.lasts = milliseconds{a.seconds > 0 ? a.seconds * 1000
                                       : static_cast<std::int64_t>(a.minutes * 60'000)};
  o.seed = a.seed;
  o.heals = milliseconds{a.heal_seconds * 1000};
  o.plant = a.plant;
  o.only = a.only;
  o.folder = folder;
  o.program = fmt::format("/proc/{}/exe", ::getpid());
  std::error_code unread;
  if (const auto self = std::filesystem::read_symlink("/proc/self/exe", unread); !unread)
    o.program = self;
  o.progress = [](const std::string& line) { std::cerr << line << std::endl; };
  o.is_cancelled = [] { return wait_signal(milliseconds{0}) != 0; };
  const auto done = ntrace::chaos::run(o);
  if (!done) return report(done.error(), a.as_json);
  std::cout << (a.as_json ? done->dump() + "\n" : ntrace::chaos::report_text(*done));
  if (!a.report.empty())
    if (auto written = write_file_durably(a.report, ntrace::chaos::report_html(*done), 0644);
        !written)
      return report(written.error(), a.as_json);
  const bool is_fine = (*done)["violations"].empty();
  if (!is_fine) std::cerr << keep_evidence(folder, a.seed, *done) << "\n";
  return is_fine ? 0 : 1;
}

}  // namespace

void add_chaos(cli::app app, outcome& out) {
  const auto sub = app.add_subcommand(
      "chaos", "A fleet of real processes under faults, held against every invariant; as root");
  auto a = std::make_shared<chaos_args>();
  sub.add_option("--minutes", a->minutes, "of faults")
      .type_name("MINUTES")
      .check(cli::range(0.1, 10'000.0))
      .capture_default_str();
  sub.add_option("--seconds", a->seconds, "the same in seconds")
      .type_name("SECONDS")
      .check(cli::range(1, 600'000));
  sub.add_option("--heal-seconds", a->heal_seconds, "the longest until everything has ended then")
      .type_name("SECONDS")
      .check(cli::range(1, 3600))
      .capture_default_str();
  sub.add_option("--seed", a->seed, "which faults come when").capture_default_str();
  sub.add_option("--dir", a->folder, "where its folder is made, and taken away")
      .type_name("DIR")
      .capture_default_str();
  sub.add_option("--only", a->only, "kinds of faults, with commas; all when absent")
      .type_name("LIST")
      .delimiter(',');
  sub.add_option("--report", a->report, "an HTML page of what happened").type_name("FILE");
#ifdef NTRACE_CRASH_POINTS
  sub.add_option("--plant", a->plant, "a bug for it to find: docs/simulator.md, \"Planted bugs\"");
#endif
  sub.add_flag("--json", a->as_json, "print the figures as JSON");
  sub.callback([&out, a] { out.run = [a] { return chaos(*a); }; });
}

}  // namespace ntrace::tools
