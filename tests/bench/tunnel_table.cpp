// The figures of `ntrace bench tunnel`: ratios to the better peer, and a table for people.
#include <algorithm>
#include <cstdio>
#include <map>

#include "tests/bench/tunnel_peers.hpp"

namespace ntrace::bench {
namespace {

using nlohmann::json;

struct goal {
  const char* what;
  double ratio;
  bool is_most;  ///< Ours must be at most so much of the peer's; else at least.
};

constexpr goal fault_goals[] = {{"killed", 0.2, true},
                                {"sshd down 3 s", 0.6, true},
                                {"black hole 1 s", 0.25, true},
                                {"black hole 5 s", 0.25, true}};
constexpr goal steady_goals[] = {
    {"round trip median us", 1.0, true}, {"round trip p99 us", 1.0, true},
    {"up MiB/s, 1", 0.7, false},         {"down MiB/s, 1", 0.7, false},
    {"up MiB/s, 64", 1.3, false},        {"down MiB/s, 64", 1.3, false}};

/// Ours beside the peer that does best.
void add_ratio(json& out, const json& rows, const char* group, const char* value, const goal& g) {
  double ours = -1, peers = -1;
  for (const auto& r : rows) {
    const double seen = r.value(value, -1.0);
    if (r.value(group, "") != g.what || seen < 0) continue;
    if (r.value("tunnel", "") == "ntrace")
      ours = seen;
    else if (r.value("tunnel", "").starts_with("autossh"))
      peers = peers < 0 ? seen : g.is_most ? std::min(peers, seen) : std::max(peers, seen);
  }
  if (ours < 0 || peers <= 0) return;
  const double ratio = ours / peers;
  out.push_back({{"what", g.what},
                 {"ntrace", ours},
                 {"peer", peers},
                 {"ratio", ratio},
                 {"goal", g.ratio},
                 {"at_most", g.is_most},
                 {"met", g.is_most ? ratio <= g.ratio : ratio >= g.ratio}});
}

}  // namespace

json tunnel_ratios(const json& figures) {
  json out = json::array();
  for (const auto& g : fault_goals) add_ratio(out, figures["faults"], "fault", "median_ms", g);
  for (const auto& g : steady_goals) add_ratio(out, figures["steady"], "what", "median", g);
  return out;
}

std::string tunnel_table(const json& figures) {
  std::string out;
  char line[200];
  const auto add = [&](const char* format, auto... values) {
    std::snprintf(line, sizeof line, format, values...);
    out += line;
  };
  add("seed %llu, %u rounds a fault; ms from the fault, or from its end, to the first echo\n\n",
      static_cast<unsigned long long>(figures["seed"].get<std::uint64_t>()),
      figures["rounds"].get<unsigned>());
  add("%-16s %-12s %10s %10s %8s %12s\n", "FAULT", "TUNNEL", "MEDIAN ms", "MAX ms", "LOST",
      "WITH REPLAY");
  for (const auto& r : figures["faults"])
    add("%-16s %-12s %10.0f %10.0f %8llu %12llu\n", r["fault"].get<std::string>().c_str(),
        r["tunnel"].get<std::string>().c_str(), r["median_ms"].get<double>(),
        r["max_ms"].get<double>(), r["lost"].get<unsigned long long>(),
        r["lost_with_replay"].get<unsigned long long>());
  std::map<std::string, std::map<std::string, double>> steady;
  for (const auto& r : figures["steady"])
    steady[r["what"].get<std::string>()][r["tunnel"].get<std::string>()] =
        r["median"].get<double>();
  add("\n%-22s", "STEADY, median");
  const std::vector<std::string> names{"ntrace", "autossh-10", "autossh-30", "ssh-aes128-ctr"};
  for (const auto& name : names) add(" %14s", name.c_str());
  out += "\n";
  for (const auto& [what, of] : steady) {
    add("%-22s", what.c_str());
    for (const auto& name : names) {
      const auto at = of.find(name);
      at == of.end() ? add(" %14s", "-") : add(" %14.2f", at->second);
    }
    out += "\n";
  }
  out += "\n";
  for (const auto& r : figures["ratios"])
    add("ratio ntrace/autossh, %-22s %6.2f  goal %s %.2f  %s\n",
        (r["what"].get<std::string>() + ":").c_str(), r["ratio"].get<double>(),
        r["at_most"].get<bool>() ? "<=" : ">=", r["goal"].get<double>(),
        r["met"].get<bool>() ? "met" : "missed");
  for (const auto& name : figures["missing"])
    out += "without " + name.get<std::string>() + "; tools/install_dependencies bench, as root\n";
  return out;
}

}  // namespace ntrace::bench
