// `ntrace bench push`: durable pushes beside brokers that keep items durably too.
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "tests/bench/bare_server.hpp"
#include "tests/bench/journal_rate.hpp"
#include "tests/bench/push_load.hpp"

namespace ntrace::bench {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr unsigned client_counts[] = {1, 16, 64};
constexpr milliseconds slice{500};

struct folder {
  explicit folder(const std::string& parent) : path{parent + "/ntrace-bench.XXXXXX"} {
    if (::mkdtemp(path.data()) == nullptr) path.clear();
    std::error_code ignored;  // Then what is to be made in it says so.
    fs::permissions(path, fs::perms::others_exec | fs::perms::group_exec, fs::perm_options::add,
                    ignored);
  }
  ~folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  std::string path;
};

}  // namespace

result<json> push(const std::string& parent, milliseconds time, bool with_peers) {
  const folder dir{parent};
  if (dir.path.empty()) return fail(ec::io, "cannot make a folder in " + parent);
  std::vector<std::string> missing;
  auto brokers = push_brokers(dir.path, with_peers, missing);
  if (!brokers) return fail(brokers.error());
  json out{{"rows", json::array()}, {"missing", missing}, {"ratios", json::array()}};
  auto rate = sync_rate(dir.path, time);
  if (!rate) return fail(rate.error());
  out["fdatasync_per_second"] = *rate;
  std::map<unsigned, std::map<std::string, double>> seen;
  const auto add_row = [&](const std::string& name, const std::string& note, unsigned clients,
                           const load_figures& figures) {
    out["rows"].push_back({{"broker", name},
                           {"durable_by", note},
                           {"clients", clients},
                           {"per_second", figures.per_second},
                           {"p50_us", figures.latency.at(0.5)},
                           {"p99_us", figures.latency.at(0.99)}});
  };
  // Not brokers, but the limits of them on this machine.
  const auto append = bare_server::start(dir.path + "/appended");
  if (!append) return fail(append.error());
  const auto echo = bare_server::start();
  if (!echo) return fail(echo.error());
  std::vector<std::unique_ptr<started_broker>> started;
  for (const auto& spec : *brokers) {
    auto one = started_broker::start(spec, dir.path + "/" + spec.name + ".log");
    if (!one) return fail(one.error());
    started.push_back(std::move(*one));
  }
  const auto add_limit = [&](const char* name, const char* note, std::uint16_t port) {
    broker_spec limit;
    limit.name = name;
    limit.note = note;
    limit.port = port;
    limit.speak = brokers->front().speak;
    brokers->push_back(std::move(limit));
  };
  add_limit("append", "an append to a file and a sync for each push, and nothing else",
            (*append)->port());
  add_limit("echo", "nothing: an answer at once, the limit of the machine's network",
            (*echo)->port());
  for (const auto clients : client_counts) {
    // By turns, because a disk is not as fast in one second as in the next.
    std::vector<broker_load> loads;
    for (const auto& spec : *brokers) {
      auto load = broker_load::start(spec, clients);
      if (!load) return fail(load.error());
      loads.push_back(std::move(*load));
    }
    for (milliseconds left = time; left.count() > 0; left -= slice)
      for (auto& load : loads)
        if (auto done = load.run_slice(std::min(left, slice)); !done) return fail(done.error());
    for (std::size_t i = 0; i < loads.size(); ++i) {
      const auto& spec = (*brokers)[i];
      const auto figures = loads[i].figures();
      if (spec.name != "echo") seen[clients][spec.name] = figures.per_second;
      add_row(spec.name, spec.note, clients, figures);
    }
    auto alone = journal_rate(dir.path, clients, time);
    if (!alone) return fail(alone.error());
    add_row("journal", "the journal alone: so many pushes in each commit, without port or clients",
            clients, *alone);
  }
  for (const auto& [clients, of] : seen)
    for (const auto& [name, per_second] : of)
      if (name != "ntrace")
        out["ratios"].push_back({{"clients", clients},
                                 {"peer", name},
                                 {"ntrace_to_peer", of.at("ntrace") / per_second}});
  return out;
}

std::string push_table(const json& figures) {
  std::string out;
  char line[160];
  std::snprintf(line, sizeof line, "the disk: %.0f fdatasync/s, one after the other\n\n",
                figures["fdatasync_per_second"].get<double>());
  out += line;
  std::snprintf(line, sizeof line, "%-12s %8s %12s %10s %10s\n", "BROKER", "CLIENTS", "PUSHES/S",
                "P50 us", "P99 us");
  out += line;
  for (const auto& r : figures["rows"]) {
    std::snprintf(line, sizeof line, "%-12s %8u %12.0f %10.0f %10.0f\n",
                  r["broker"].get<std::string>().c_str(), r["clients"].get<unsigned>(),
                  r["per_second"].get<double>(), r["p50_us"].get<double>(),
                  r["p99_us"].get<double>());
    out += line;
  }
  out += "\n";
  for (const auto& r : figures["ratios"]) {
    std::snprintf(line, sizeof line, "ratio ntrace/%s at %u clients: %.2f\n",
                  r["peer"].get<std::string>().c_str(), r["clients"].get<unsigned>(),
                  r["ntrace_to_peer"].get<double>());
    out += line;
  }
  for (const auto& name : figures["missing"])
    out += "no peer " + name.get<std::string>() +
           ": not installed; tools/install_dependencies bench\n";
  return out;
}

}  // namespace ntrace::bench
