// doctor: tries what each role needs, in a child and a throw-away folder, asks a running dispatcher
// for its own findings, and names the command that repairs each fault.
#include <fmt/core.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <iostream>

#include "actors/journal/journal_sqlite.hpp"
#include "actors/profiler/sampler_perf.hpp"
#include "actors/zone/linux/machine_probe.hpp"
#include "actors/zone/linux/oci_runtime.hpp"
#include "actors/zone/zone_linux.hpp"
#include "config/ids.hpp"
#include "config/subprocess.hpp"
#include "config/temporary_folder.hpp"
#include "tools/command.hpp"
#include "tools/doctor_sample.hpp"

namespace ntrace::tools {
namespace {

struct finding {
  std::string verdict;  ///< ok, degraded, missing or FAIL.
  std::string id, text;
};

class examination {
public:
  /// It tries things in a folder of its own below `data`.
  explicit examination(const std::string& data) : data_{data} {}

  void program(const char* id, std::vector<std::string> argv, const char* remedy, bool is_needed) {
    subprocess_spec spec;
    spec.argv = std::move(argv);
    spec.deadline = milliseconds{10'000};
    const auto done = run_subprocess(spec);
    if (done && done->ok())
      add("ok", id, done->out.substr(0, done->out.find('\n')));
    else
      add(is_needed ? "FAIL" : "missing", id, remedy);
  }

  void journal() {
    auto db =
        journal::journal_sqlite::open(folder_.path() + "/journal.sqlite", sqlite::role::writer);
    if (db)
      add("ok", "journal", "SQLite with WAL works below " + data_);
    else
      add("FAIL", "journal", to_string(db.error()));
  }

  void zones() {
    const bool is_root = ::geteuid() == 0;
    if (!is_root)
      add("degraded", "rights",
          "not root: zones have one user id and no limits → run as root, e.g. under systemd");
    parts(is_root);
    auto helper = zone::privileged_helper::start({folder_.path(), "", !is_root});
    if (!helper) return add("FAIL", "helper", to_string(helper.error()));
    random_source random{random_seed()};
    const auto uuid = make_uuid(random);
    if (auto made = (*helper)->call({{"op", "create"}, {"uuid", uuid}}); !made)
      return add("FAIL", "zone", to_string(made.error()));
    zone::zone_linux z{*helper, uuid};
    const auto began = steady_clock::now();
    const auto up = z.boot({});
    if (!up) {
      add("FAIL", "zone", to_string(up.error()) + " → a kernel of 5.14 or later");
    } else {
      add(up->ok() ? "ok" : "FAIL", "zone", "booted and proved clean in " + elapsed_since(began));
      for (const auto& what : up->degraded)
        if (!what.starts_with("disk")) add("degraded", what, without(what));
      node(z);
      sampler(z);
      disk(z, false);
      if (is_root) disk(z, true);
    }
    if (auto ended = z.end(); !ended) add("FAIL", "zone_end", to_string(ended.error()));
    if (auto gone = z.destroy(); !gone) add("FAIL", "zone_destroy", to_string(gone.error()));
  }

  /// Zones by an OCI runtime: only `zone_backend = oci` needs them.
  void oci_zones() {
    if (::geteuid() != 0) return add("missing", "oci", "zones by an OCI runtime → run as root");
    const auto runtime = zone::oci_runtime::find();
    if (!runtime)
      return add("missing", "oci",
                 "neither runc nor crun; only zone_backend = oci needs one → apt-get install runc");
    auto helper = zone::privileged_helper::start({folder_.path(), "", false, "oci"});
    if (!helper) return add("FAIL", "helper", to_string(helper.error()));
    random_source random{random_seed()};
    const auto uuid = make_uuid(random);
    zone::zone_linux z{*helper, uuid};
    const auto began = steady_clock::now();
    const auto made = (*helper)->call({{"op", "create"}, {"uuid", uuid}});
    const auto up = made ? z.boot({}) : fail(made.error());
    const auto took = elapsed_since(began);
    const auto seen = up ? take_one_sample(z, folder_.path()) : fail(up.error());
    if (seen)
      add("ok", "oci",
          fmt::format("{} boots a zone that is proved clean, in {}; {}", runtime->program(), took,
                      said(*seen)));
    else
      add("missing", "oci", "zone_backend = oci does not work here: " + to_string(seen.error()));
    // A zone that was never made cannot be destroyed.
    if (auto gone = z.destroy(); made && !gone)
      add("FAIL", "zone_destroy", to_string(gone.error()));
  }

  /// A running dispatcher's own findings.
  void running_dispatcher(const server_flags& server) {
    const auto status = server.call("status", json::array(), milliseconds{5'000});
    if (!status)
      return add(
          status.error().code == ec::unreachable ? "ok" : "FAIL", "invariants",
          status.error().code == ec::unreachable
              ? "no dispatcher runs at " + server.at + "; `ntrace journal check` reads a file"
              : to_string(status.error()));
    const auto found = status->value("invariants", json::object());
    if (found.contains("error"))
      return add("degraded", "invariants",
                 "the monitor does not answer: " + found.value("error", ""));
    const auto violations = found.value("violations", std::int64_t{0});
    add(violations == 0 ? "ok" : "FAIL", "invariants",
        fmt::format("{} violations in {} checks of runs since its start, {} lines behind{}",
                    violations, found.value("runs_checked", std::int64_t{0}),
                    found.value("lines_behind", std::int64_t{0}),
                    violations == 0
                        ? ""
                        : " → `ntrace journal backup FILE` keeps the evidence; `ntrace why "
                          "RUN`; please report it"));
    for (const auto& v : found.value("list", json::array()))
      add("FAIL", v.value("invariant", ""),
          fmt::format("{}{}, found {}",
                      v.value("run", "").empty() ? "" : "run " + v.value("run", "") + ": ",
                      v.value("what", ""), moment(v.value("at_ms", std::int64_t{0}))));
  }

  /// The workers of a running runner.
  void running_runner(const server_flags& server) {
    const auto list = server.call("workers", json::array(), milliseconds{5'000});
    if (!list && list.error().code == ec::unreachable)
      return add("ok", "workers", "no runner runs at " + server.at);
    if (!list) return add("FAIL", "workers", to_string(list.error()));
    std::size_t broken = 0;
    for (const auto& w : *list) {
      const auto state = w.value("state", "");
      if (state != "repairing" && state != "parked") continue;
      ++broken;
      add("degraded", "worker",
          fmt::format("{} is {}: {}", w.value("uuid", ""), state, w.value("problem", "")));
    }
    add(broken == 0 ? "ok" : "degraded", "workers",
        fmt::format(
            "{} enrolled at {}, {} of them broken{}", list->size(), server.at, broken,
            broken == 0 ? "" : " → with the cause gone, `ntrace enroll UUID` tries one at once"));
  }

  /// The tunnel relies on its SSH library to find changed bytes. Debian's found none with AES-GCM
  /// before this version (CVE-2026-59847).
  void ssh_library() {
    constexpr const char* sound = "0.10.6-0+deb12u3";
    const auto asked = [](std::vector<std::string> argv) {
      subprocess_spec spec;
      spec.argv = std::move(argv);
      auto done = run_subprocess(spec);
      return done && done->ok() ? std::optional{done->out} : std::nullopt;
    };
    const auto version = asked({"dpkg-query", "-W", "-f=${Version}", "libssh-4"});
    if (!version || version->empty())
      return;  // Not from a package of Debian: there is nothing to compare.
    const bool is_sound = asked({"dpkg", "--compare-versions", *version, "ge", sound}).has_value();
    add(is_sound ? "ok" : "degraded", "libssh",
        *version + (is_sound ? " finds changed bytes of a tunnel"
                             : " takes changed bytes of a tunnel for whole ones (CVE-2026-59847) → "
                               "apt-get update && apt-get install libssh-4, with "
                               "bookworm-security among apt's sources"));
  }

  const std::vector<finding>& findings() const { return findings_; }
  bool can_run() const {
    return std::none_of(findings_.begin(), findings_.end(),
                        [](const finding& f) { return f.verdict == "FAIL"; });
  }

private:
  static std::string elapsed_since(time_point began) {
    const auto ms = std::chrono::duration_cast<milliseconds>(steady_clock::now() - began).count();
    return std::to_string(ms) + " ms";
  }

  void add(std::string verdict, std::string id, std::string text) {
    findings_.push_back({std::move(verdict), std::move(id), std::move(text)});
  }

  /// The parts of a zone, each by itself.
  void parts(bool is_root) {
    const auto cgroups = zone::try_cgroups();
    if (cgroups)
      add("ok", "cgroups", *cgroups);
    else
      add(is_root ? "FAIL" : "degraded", "cgroups",
          "no limits of memory, processes and CPU: " + to_string(cgroups.error()) +
              (is_root ? " → mount -t cgroup2 none /sys/fs/cgroup" : " → run as root"));
    if (auto made = zone::try_namespaces(); made)
      add("ok", "namespaces", "all kinds, with user namespaces");
    else
      add("FAIL", "namespaces",
          to_string(made.error()) +
              " → sysctl -w user.max_user_namespaces=15000 user.max_net_namespaces=15000, "
              "kernel.unprivileged_userns_clone=1 where there is such a setting");
    if (auto mounted = zone::try_overlay(folder_.path()); mounted)
      add("ok", "overlay", "over folders of " + data_);
    else
      add("FAIL", "overlay",
          to_string(mounted.error()) +
              " → `modprobe overlay`; a data folder on ext4, xfs or btrfs");
  }

  /// What a zone lacks, what that costs and what gives it.
  static std::string without(const std::string& feature) {
    if (feature == "uid_range")
      return "a zone's ids are the user's own: P3 proves nothing → run as root";
    if (feature == "limits")
      return "no limits of memory, processes and CPU → run as root, with cgroups mounted";
    if (feature == "usr")
      return "zones have the host's own files below /usr, read-only: locks and watches on them are "
             "shared → a /usr on ext4, xfs, btrfs or one overlay, and the data folder elsewhere";
    if (feature == "devices")
      return "zones have the host's own /dev/null and its like → run as root, with CAP_MKNOD";
    return "the zone does without it";
  }

  /// Fills a small disk.
  void disk(zone::zone& z, bool in_memory) {
    zone::boot_spec spec;
    spec.limits.disk_bytes = 4u << 20;
    spec.limits.disk_in_memory = in_memory;
    const auto up = z.boot(spec);
    const auto filled =
        up ? z.exec(
                 {{"sh", "-c", "dd if=/dev/zero of=/job/full bs=1M count=16 && sleep 10"},
                  {"PATH=/usr/bin"},
                  "/",
                  milliseconds{20'000}},
                 {}, [](std::string_view, std::string_view) {}, nullptr, -1)
           : fail(up.error());
    const char* id = in_memory ? "disk_memory" : "disk";
    if (filled && filled->disk_full)
      add("ok", id,
          in_memory ? "zone_disk = memory bounds exactly what a run writes"
                    : "a run that writes more than zone_disk_bytes is ended");
    else
      add("degraded", id,
          "what a run writes cannot be bounded: " +
              (filled ? std::string{"a bound did not hold"} : to_string(filled.error())));
  }

  void node(zone::zone& z) {
    std::string version;
    const auto ended = z.exec(
        {{"sh", "-c", "node --version && npm --version"},
         {"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/home/job"},
         "/job",
         milliseconds{20'000}},
        {}, [&](std::string_view, std::string_view data) { version += data; }, nullptr, -1);
    if (ended && ended->ok()) {
      std::replace(version.begin(), version.end(), '\n', ' ');
      while (version.ends_with(' ')) version.pop_back();
      add("ok", "node", "in the zone: node and npm " + version);
    } else {
      add("FAIL", "node", "node and npm are not below /usr → apt-get install nodejs npm");
    }
  }

  void sampler(zone::zone& z) {
    const auto seen = take_one_sample(z, folder_.path());
    if (!seen) return add("FAIL", "perf", to_string(seen.error()) + " → " + sampling_advice());
    add("ok", "perf", said(*seen));
    if (!seen->names_spin)
      add("degraded", "symbols", "the stacks do not name the program's own function spin");
    if (seen->event.starts_with("cpu-clock"))
      add("degraded", "perf_clock",
          "software clock only (no hardware counters): profiles show CPU time, not cycles");
    if (!profiler::host_kernel_symbols())
      add("degraded", "kernel_symbols",
          "kernel frames have no names → sysctl -w kernel.kptr_restrict=0, or run as root");
  }

  static std::string said(const seen_sample& s) {
    return fmt::format("{} samples of {} in a zone, hottest frame {}", s.samples, s.event,
                       s.hottest);
  }

  std::string data_;
  temporary_folder folder_{data_, "ntrace-doctor"};
  std::vector<finding> findings_;
};

int doctor(const std::string& role, const std::string& data, const server_flags& server,
           const server_flags& runner) {
  const bool as_json = server.as_json;
  examination all{data};
  const bool for_runner = role != "dispatcher";
  if (for_runner) {
    all.zones();
    all.oci_zones();
    all.running_runner(runner);
    all.ssh_library();
  }
  if (role != "runner") {
    all.journal();
    all.running_dispatcher(server);
  }
  if (for_runner)
    all.program("git", {"git", "--version"}, "git is missing → apt-get install git", false);
  if (as_json) {
    json list = json::array();
    for (const auto& f : all.findings())
      list.push_back({{"verdict", f.verdict}, {"id", f.id}, {"text", f.text}});
    std::cout << json{{"role", role}, {"can_run", all.can_run()}, {"findings", list}}.dump()
              << "\n";
  } else {
    std::vector<std::vector<std::string>> rows;
    for (const auto& f : all.findings()) rows.push_back({f.verdict, f.id, for_terminal(f.text)});
    std::cout << table(rows)
              << (all.can_run() ? "this machine can run " : "this machine cannot run ") << role
              << (all.can_run() && for_runner && ::geteuid() != 0
                      ? " with --zone-allow-degraded, with fewer guarantees than as root"
                      : "")
              << "\n";
  }
  return all.can_run() ? 0 : 4;
}

}  // namespace

void add_doctor(cli::app app, outcome& out) {
  const auto sub = app.add_subcommand("doctor", "What this machine can do and what is missing");
  auto role = std::make_shared<std::string>("up");
  auto data = std::make_shared<std::string>(std::filesystem::temp_directory_path());
  sub.add_option("--data", *data, "where the data folder will lie; tried below it")
      .type_name("DIR")
      .check(cli::existing_folder())
      .capture_default_str();
  auto server = std::make_shared<server_flags>();
  sub.add_option("ROLE", *role, "up, dispatcher or runner")
      .check(cli::one_of({"up", "dispatcher", "runner"}))
      .capture_default_str();
  auto runner = std::make_shared<server_flags>();
  server->add(sub, "dispatcher");
  runner->add_address(sub, "runner");
  sub.callback([&out, role, data, server, runner] {
    out.run = [role, data, server, runner] { return doctor(*role, *data, *server, *runner); };
  });
}

}  // namespace ntrace::tools
