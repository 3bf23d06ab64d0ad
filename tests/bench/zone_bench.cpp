// Our zones, by either backend, beside runc, crun and bubblewrap: from a used root to a fresh one
// in which a program has run. The peers have no rollback: theirs is a new overlay on the same
// layers.
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <future>
#include <numeric>

#include "actors/zone/linux/zone_store.hpp"
#include "actors/zone/zone_linux.hpp"
#include "config/ids.hpp"
#include "config/random.hpp"
#include "config/subprocess.hpp"
#include "tests/bench/bench.hpp"

namespace ntrace::bench {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr double goal_of_runc = 0.25;
constexpr unsigned warm_up = 3;
constexpr const char* program = "/usr/bin/true";

double ms_since(time_point began) {
  return std::chrono::duration<double, std::milli>(steady_clock::now() - began).count();
}

json row(const std::string& side, std::vector<double> ms) {
  std::sort(ms.begin(), ms.end());
  const sample s{ms};
  return {{"side", side}, {"median_ms", s.at(0.5)}, {"p99_ms", s.at(0.99)}, {"raw_ms", ms}};
}

/// One folder for everything, gone at the end.
struct folder {
  std::string path;
  explicit folder(const std::string& parent) : path{parent + "/ntrace-bench-XXXXXX"} {
    if (!::mkdtemp(path.data())) path.clear();
  }
  ~folder() {
    std::error_code ignored;
    if (!path.empty()) fs::remove_all(path, ignored);
  }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;
};

result<std::unique_ptr<zone::zone_linux>> make_zone(
    const std::shared_ptr<zone::privileged_helper>& helper) {
  random_source random{random_seed()};
  const auto uuid = make_uuid(random);
  if (auto made = helper->call({{"op", "create"}, {"uuid", uuid}}); !made)
    return fail(made.error());
  return std::make_unique<zone::zone_linux>(helper, uuid);
}

result<void> use_once(zone::zone& z) {
  if (auto up = z.boot({}); !up) return fail(up.error());
  const auto end = z.exec(
      {{program}, {"PATH=/usr/bin"}, "/", milliseconds{10'000}}, {},
      [](std::string_view, std::string_view) {}, nullptr, -1);
  if (!end) return fail(end.error());
  if (!end->ok()) return fail(ec::zone_failed, "the program did not end well");
  return {};
}

/// A root as a peer gets it: an overlay on the zone's own layers, with the host's /usr.
class peer_root {
public:
  peer_root(std::string at, std::string lower) : at_{std::move(at)}, lower_{std::move(lower)} {
    fs::create_directories(at_ + "/rootfs");
  }
  ~peer_root() { leave(); }
  peer_root(const peer_root&) = delete;
  peer_root& operator=(const peer_root&) = delete;

  bool renew() {
    leave();
    for (const char* part : {"/upper", "/work"}) fs::create_directories(at_ + part);
    const auto options =
        "lowerdir=" + lower_ + ",upperdir=" + at_ + "/upper,workdir=" + at_ + "/work";
    return ::mount("overlay", merged().c_str(), "overlay", MS_NOSUID | MS_NODEV, options.c_str()) ==
           0;
  }
  std::string merged() const { return at_ + "/rootfs"; }
  std::string bundle(const std::string& runtime) const { return at_ + "/" + runtime; }

private:
  void leave() {
    ::umount2(merged().c_str(), MNT_DETACH);
    std::error_code ignored;
    for (const char* part : {"/upper", "/work"}) fs::remove_all(at_ + part, ignored);
  }
  std::string at_, lower_;
};

result<void> run(std::vector<std::string> argv, const std::string& cwd) {
  subprocess_spec spec;
  spec.argv = std::move(argv);
  spec.cwd = cwd;
  const auto done = run_subprocess(spec);
  if (!done) return fail(done.error());
  if (!done->ok()) return fail(ec::unreachable, done->err.substr(0, 200));
  return {};
}

/// The runtime's own default configuration, with our root and program.
result<void> write_bundle(const std::string& runtime, const peer_root& root) {
  const auto bundle = root.bundle(runtime);
  fs::create_directories(bundle);
  if (auto made = run({runtime, "spec"}, bundle); !made) return made;
  const auto text = read_file(bundle + "/config.json");
  auto config = json::parse(text.value_or(""), nullptr, false);
  if (!config.is_object()) return fail(ec::unreachable, runtime + " spec writes no configuration");
  config["root"] = {{"path", root.merged()}, {"readonly", false}};
  config["process"]["args"] = json::array({program});
  config["process"]["terminal"] = false;
  config["mounts"].push_back({{"destination", "/usr"},
                              {"source", "/usr"},
                              {"type", "none"},
                              {"options", {"rbind", "ro"}}});
  return write_file_durably(bundle + "/config.json", config.dump());
}

using one_use = std::function<result<void>()>;

/// The peers that are installed and work here; others go to `missing` with the reason.
std::map<std::string, one_use> peers(peer_root& root, json& missing) {
  std::map<std::string, one_use> out;
  const auto offer = [&](const std::string& name, one_use use) {
    if (auto done = use(); done)
      out[name] = std::move(use);
    else
      missing.push_back({{"side", name}, {"why", done.error().message}});
  };
  for (const std::string runtime : {"runc", "crun"}) {
    // Each has its own bundle, for their defaults differ.
    const auto bundle = root.bundle(runtime);
    if (auto written = write_bundle(runtime, root); !written) {
      missing.push_back({{"side", runtime}, {"why", written.error().message}});
      continue;
    }
    offer(runtime, [&root, runtime, bundle]() -> result<void> {
      if (!root.renew()) return fail(ec::unreachable, "no overlay can be mounted");
      return run({runtime, "run", "--bundle", bundle,
                  "ntrace-bench-" + runtime + "-" + std::to_string(::getpid())},
                 "/");
    });
  }
  offer("bubblewrap", [&root]() -> result<void> {
    if (!root.renew()) return fail(ec::unreachable, "no overlay can be mounted");
    return run(
        {"bwrap", "--bind", root.merged(), "/", "--ro-bind", "/usr", "/usr", "--proc", "/proc",
         "--dev", "/dev", "--tmpfs", "/tmp", "--unshare-all", "--die-with-parent", program},
        "/");
  });
  return out;
}

std::size_t entries(const std::string& path) {
  std::error_code ignored;
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator{path, ignored}, fs::directory_iterator{}));
}

std::uint64_t bytes_below(const std::string& path) {
  std::uint64_t out = 0;
  std::error_code ignored;
  for (fs::recursive_directory_iterator at{path, ignored}, end; !ignored && at != end;
       at.increment(ignored)) {
    struct stat facts {};
    if (::lstat(at->path().c_str(), &facts) == 0)
      out += static_cast<std::uint64_t>(facts.st_blocks) * 512;
  }
  return out;
}

std::uint64_t resident_kib(int pid) {
  const auto status = read_file("/proc/" + std::to_string(pid) + "/status").value_or("");
  const auto at = status.find("VmRSS:");
  return at == status.npos ? 0 : std::strtoull(status.c_str() + at + 6, nullptr, 10);
}

/// Many rollbacks of one zone: what grows, and whether the last are slower than the first.
result<json> many(const std::shared_ptr<zone::privileged_helper>& helper, const std::string& data,
                  unsigned rollbacks) {
  auto z = make_zone(helper);
  if (!z) return fail(z.error());
  const auto helper_files = "/proc/" + std::to_string(helper->pid().value()) + "/fd";
  std::vector<double> ms;
  std::uint64_t most_bytes = 0;
  json before;
  const auto state = [&] {
    return json{{"descriptors", entries("/proc/self/fd")},
                {"helper_descriptors", entries(helper_files)},
                {"helper_kib", resident_kib(helper->pid().value())},
                {"disk_bytes", bytes_below(data + "/zones/" + (*z)->uuid())}};
  };
  for (unsigned i = 0; i < rollbacks; ++i) {
    const auto began = steady_clock::now();
    if (auto used = use_once(**z); !used) return fail(used.error());
    ms.push_back(ms_since(began));
    if (i == std::min(100u, rollbacks / 2)) before = state();
    if (i % 500 == 0)
      most_bytes = std::max(most_bytes, bytes_below(data + "/zones/" + (*z)->uuid()));
  }
  const auto part = std::max<std::size_t>(std::min<std::size_t>(100, ms.size() / 2), 1);
  const auto after = state();
  // The machine itself drifts over minutes: what tells is a zone that was never used, right after.
  if (auto ended = (*z)->end(); !ended) return fail(ended.error());
  auto unused = make_zone(helper);
  if (!unused) return fail(unused.error());
  std::vector<double> unused_ms;
  for (std::size_t i = 0; i < part; ++i) {
    const auto began = steady_clock::now();
    if (auto used = use_once(**unused); !used) return fail(used.error());
    unused_ms.push_back(ms_since(began));
  }
  return json{{"rollbacks", rollbacks},
              {"first", row("first", {ms.begin(), ms.begin() + static_cast<std::ptrdiff_t>(part)})},
              {"last", row("last", {ms.end() - static_cast<std::ptrdiff_t>(part), ms.end()})},
              {"unused", row("unused", std::move(unused_ms))},
              {"before", before},
              {"after", after},
              {"most_disk_bytes", most_bytes}};
}

/// All at once: each boots, runs the program and stays up until all are.
result<json> at_once(const std::shared_ptr<zone::privileged_helper>& helper, unsigned zones) {
  std::vector<std::unique_ptr<zone::zone_linux>> all;
  for (unsigned i = 0; i < zones; ++i) {
    auto z = make_zone(helper);
    if (!z) return fail(z.error());
    all.push_back(std::move(*z));
  }
  const auto began = steady_clock::now();
  std::vector<std::future<result<void>>> uses;
  for (auto& z : all) uses.push_back(std::async(std::launch::async, [&z] { return use_once(*z); }));
  for (auto& use : uses)
    if (auto done = use.get(); !done) return fail(done.error());
  return json{{"zones", zones}, {"all_used_ms", ms_since(began)}};
}

}  // namespace

result<json> zone(const std::string& parent, unsigned rounds, unsigned rollbacks, unsigned zones) {
  if (::geteuid() != 0) return fail(ec::zone_unsupported, "the zones' benchmark needs root");
  const folder place{parent};
  if (place.path.empty()) return fail(io_error("make a folder in", parent, errno));
  const auto data = place.path + "/data";
  // Before there is any thread.
  auto helper = zone::privileged_helper::start({data, "", false});
  if (!helper) return fail(helper.error());
  auto by_runtime = zone::privileged_helper::start({place.path + "/oci", "", false, "oci"});
  if (!by_runtime) return fail(by_runtime.error());
  auto ours = make_zone(*helper);
  if (!ours) return fail(ours.error());
  auto oci = make_zone(*by_runtime);
  if (!oci) return fail(oci.error());
  json out{{"rounds", rounds}, {"missing", json::array()}, {"rows", json::array()}};
  peer_root root{place.path + "/peer",
                 data + "/zones/" + (*ours)->uuid() + "/snapshots/clean/layer"};
  auto sides = peers(root, out["missing"]);
  sides["ntrace"] = [&] { return use_once(**ours); };
  if (auto works = use_once(**oci); works)
    sides["ntrace, oci"] = [&] { return use_once(**oci); };
  else
    out["missing"].push_back({{"side", "ntrace, oci"}, {"why", works.error().message}});
  std::map<std::string, std::vector<double>> ms;
  // In turn, so that what else the machine does meets all.
  for (unsigned i = 0; i < rounds + warm_up; ++i)
    for (const auto& [name, use] : sides) {
      const auto began = steady_clock::now();
      if (auto done = use(); !done) return fail(done.error());
      if (i >= warm_up) ms[name].push_back(ms_since(began));
    }
  for (const auto& [name, times] : ms) out["rows"].push_back(row(name, times));
  out["ratios"] = json::array();
  const auto median = [&](const std::string& side) {
    for (const auto& r : out["rows"])
      if (r["side"] == side) return r["median_ms"].get<double>();
    return 0.0;
  };
  for (const auto& r : out["rows"]) {
    const auto side = r["side"].get<std::string>();
    if (side.starts_with("ntrace")) continue;
    const double ratio = median("ntrace") / median(side);
    json one{{"peer", side}, {"ratio", ratio}};
    if (side == "runc") {
      one["goal"] = goal_of_runc;
      one["met"] = ratio <= goal_of_runc;
    }
    out["ratios"].push_back(std::move(one));
  }
  ours->reset();
  oci->reset();
  auto flat = many(*helper, data, rollbacks);
  if (!flat) return fail(flat.error());
  out["many"] = std::move(*flat);
  auto full = at_once(*helper, zones);
  if (!full) return fail(full.error());
  out["at_once"] = std::move(*full);
  return out;
}

std::string zone_table(const json& figures) {
  std::string out;
  char line[240];
  const auto add = [&](const char* format, auto... values) {
    std::snprintf(line, sizeof line, format, values...);
    out += line;
  };
  add("%u rounds: a new root from the snapshot, boot, one program; ms\n\n%-12s %10s %10s\n",
      figures["rounds"].get<unsigned>(), "SIDE", "MEDIAN", "P99");
  for (const auto& r : figures["rows"])
    add("%-12s %10.2f %10.2f\n", r["side"].get<std::string>().c_str(), r["median_ms"].get<double>(),
        r["p99_ms"].get<double>());
  out += "\n";
  for (const auto& r : figures["ratios"]) {
    add("ratio ntrace/%-12s %6.2f", (r["peer"].get<std::string>() + ":").c_str(),
        r["ratio"].get<double>());
    if (r.contains("goal"))
      add("  goal <= %.2f  %s", r["goal"].get<double>(), r["met"].get<bool>() ? "met" : "missed");
    out += "\n";
  }
  const auto& m = figures["many"];
  add("\n%u rollbacks of one zone, and then a new one's; ms\n\n%-16s %8s %10s\n",
      m["rollbacks"].get<unsigned>(), "HUNDRED", "MEDIAN", "P99");
  for (const char* part : {"first", "last", "unused"})
    add("%-16s %8.2f %10.2f\n", part[0] == 'u' ? "a new zone's" : part,
        m[part]["median_ms"].get<double>(), m[part]["p99_ms"].get<double>());
  add("\nratio last/new: %.2f\n",
      m["last"]["median_ms"].get<double>() / m["unused"]["median_ms"].get<double>());
  for (const char* what : {"descriptors", "helper_descriptors", "helper_kib", "disk_bytes"})
    add("  %-20s %llu before, %llu after\n", what,
        static_cast<unsigned long long>(m["before"].value(what, std::uint64_t{0})),
        static_cast<unsigned long long>(m["after"].value(what, std::uint64_t{0})));
  add("  %-20s %llu\n", "most_disk_bytes",
      static_cast<unsigned long long>(m["most_disk_bytes"].get<std::uint64_t>()));
  add("\n%u zones at once: all had run their program after %.0f ms\n",
      figures["at_once"]["zones"].get<unsigned>(), figures["at_once"]["all_used_ms"].get<double>());
  for (const auto& one : figures["missing"])
    add("without %s: %s\n", one["side"].get<std::string>().c_str(),
        one["why"].get<std::string>().c_str());
  return out;
}

}  // namespace ntrace::bench
