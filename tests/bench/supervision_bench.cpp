// Our side of the supervision benchmark, and the call of Erlang's.
#include <unistd.h>
#include <caf/actor_system.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/stateful_actor.hpp>

#include <algorithm>
#include <cstdio>
#include <sstream>

#include "config/file.hpp"
#include "config/log.hpp"
#include "config/subprocess.hpp"
#include "supervision/caf_config.hpp"
#include "supervision/caf_types.hpp"
#include "supervision/supervisor_actor.hpp"
#include "tests/bench/bench.hpp"
#include "tests/bench/supervision_peer.hpp"

namespace ntrace::bench {
namespace {

using namespace supervision;
using nlohmann::json;
using ping_atom = caf::atom_constant<caf::atom("ping")>;
using burst_atom = caf::atom_constant<caf::atom("burst")>;
using run_atom = caf::atom_constant<caf::atom("run")>;

constexpr std::array<unsigned, 3> sizes{1, 100, 10'000};

double micros(time_point::duration d) {
  return std::chrono::duration<double, std::micro>(d).count();
}

std::int64_t resident_bytes() {
  std::istringstream in{read_file("/proc/self/statm").value_or("")};
  std::int64_t total = 0, resident = 0;
  in >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

caf::behavior server(caf::event_based_actor* self, int) {
  guard(self, "server");
  return {[](ping_atom) { return 1; },
          [](burst_atom) { throw std::runtime_error("burst as told"); }};
}

struct client_state {
  const char* name = "client";
  std::vector<caf::actor> fronts;
  std::shared_ptr<sample> times;
  std::size_t turn = 0, warm_up = 0, restarts = 0;
  caf::response_promise done;
};
using client_self = caf::stateful_actor<client_state>*;

/// From the message that makes a child fail to the first answer of its successor.
void next(client_self self) {
  auto& s = self->state;
  if (s.turn == s.warm_up + s.restarts) {
    std::sort(s.times->us.begin(), s.times->us.end());
    return s.done.deliver(caf::ok_atom::value);
  }
  const auto& front = s.fronts[s.turn % s.fronts.size()];
  const auto began = steady_clock::now();
  self->send(front, burst_atom::value);
  self->request(front, caf::infinite, ping_atom::value).then([self, began](int) {
    auto& state = self->state;
    if (state.turn++ >= state.warm_up)
      state.times->us.push_back(micros(steady_clock::now() - began));
    next(self);
  });
}

caf::behavior client(client_self self, const std::vector<caf::actor>& fronts, std::size_t restarts,
                     const std::shared_ptr<sample>& times) {
  self->state.fronts = fronts;
  self->state.warm_up = restarts / 10;
  self->state.restarts = restarts;
  self->state.times = times;
  return {[self](run_atom) -> caf::result<caf::ok_atom> {
    self->state.done = self->make_response_promise();
    next(self);
    return caf::delegated<caf::ok_atom>{};
  }};
}

json measure(unsigned children, unsigned restarts) {
  supervision::caf_config config;  // As `ntrace up` runs.
  caf::actor_system system{config};
  caf::scoped_actor self{system};
  const auto memory = resident_bytes();
  std::vector<child> specs;
  std::vector<caf::actor> fronts;
  for (unsigned i = 0; i < children; ++i) {
    fronts.push_back(spawn_facade(system));
    specs.push_back(
        {{"child_" + std::to_string(i)},
         [](caf::local_actor* by) -> result<caf::actor> { return by->system().spawn(server, 0); },
         fronts.back()});
  }
  const auto began = steady_clock::now();
  const auto root = spawn_supervisor(
      system, "root", {strategy::one_for_one, 1'000'000'000, milliseconds{1000}}, specs);
  self->request(root, caf::infinite, wait_atom::value)
      .receive([](caf::ok_atom) {}, [](const caf::error&) {});
  const auto spawned = micros(steady_clock::now() - began);
  const auto bytes = std::max<std::int64_t>(0, resident_bytes() - memory);
  auto times = std::make_shared<sample>();
  const auto asker = self->spawn(client, fronts, restarts, times);
  self->request(asker, caf::infinite, run_atom::value)
      .receive([](caf::ok_atom) {}, [](const caf::error&) {});
  self->send_exit(asker, caf::exit_reason::user_shutdown);
  self->send_exit(root, caf::exit_reason::user_shutdown);
  self->wait_for(asker, root);
  for (const auto& f : fronts) end_facade(f);
  return {{"children", children},           {"side", "ntrace"},
          {"median_us", times->at(0.5)},    {"p99_us", times->at(0.99)},
          {"spawn_us", spawned / children}, {"bytes_per_child", bytes / children}};
}

/// Erlang's rows; an empty list where escript is not installed.
result<json> peer_rows(unsigned restarts) {
  char path[] = "/tmp/ntrace-bench-XXXXXX";
  const unique_fd file{::mkstemp(path)};
  if (!file) return fail(io_error("make", path, errno));
  const std::string script{supervision_peer};
  if (::write(file.get(), script.data(), script.size()) != static_cast<ssize_t>(script.size()))
    return fail(io_error("write", path, errno));
  subprocess_spec spec;
  spec.argv = {"escript", path, std::to_string(restarts)};
  for (const auto n : sizes) spec.argv.push_back(std::to_string(n));
  spec.deadline = std::chrono::minutes{5};
  const auto ran = run_subprocess(spec);
  ::unlink(path);
  if (!ran || ran->exit_code == 127) return json::array();
  if (ran->exit_code != 0) return fail(ec::io, "escript failed: " + ran->err + ran->out);
  json rows = json::array();
  std::istringstream lines{ran->out};
  for (std::string line; std::getline(lines, line);)
    if (auto row = json::parse(line, nullptr, false); row.is_object())
      rows.push_back(std::move(row));
  return rows;
}

}  // namespace

result<json> supervision(unsigned restarts) {
  log::set_level("off");  // Both sides: what is measured is supervision, not logging.
  auto peer = peer_rows(restarts);
  if (!peer) return peer;
  measure(1, std::min(restarts, 2000u));  // Warms up, as the peer does.
  json rows = json::array(), ratios = json::array();
  for (const auto n : sizes) {
    rows.push_back(measure(n, restarts));
    const auto ours = rows.back();
    for (const auto& theirs : *peer) {
      if (theirs["children"] != n) continue;
      rows.push_back(theirs);
      const auto ratio = [&](const char* what) {
        return ours[what].get<double>() / theirs[what].get<double>();
      };
      ratios.push_back({{"children", n}, {"median", ratio("median_us")}, {"p99", ratio("p99_us")}});
    }
  }
  return json{{"benchmark", "supervision"},
              {"restarts", restarts},
              {"peer", peer->empty() ? "erlang-base is not installed" : "erlang"},
              {"rows", rows},
              {"ratios", ratios}};
}

std::string supervision_table(const json& figures) {
  std::string out = "failed child: failure to first message served by its successor, " +
                    std::to_string(figures["restarts"].get<unsigned>()) + " restarts each\n";
  char line[160];
  std::snprintf(line, sizeof line, "%9s  %-7s %11s %11s %12s %12s\n", "children", "side",
                "median us", "p99 us", "spawn us", "bytes/child");
  out += line;
  for (const auto& r : figures["rows"]) {
    std::snprintf(line, sizeof line, "%9u  %-7s %11.1f %11.1f %12.2f %12lld\n",
                  r["children"].get<unsigned>(), r["side"].get<std::string>().c_str(),
                  r["median_us"].get<double>(), r["p99_us"].get<double>(),
                  r["spawn_us"].get<double>(), r["bytes_per_child"].get<long long>());
    out += line;
  }
  for (const auto& r : figures["ratios"]) {
    std::snprintf(line, sizeof line, "ratio ntrace/erlang at %u children: median %.2f, p99 %.2f\n",
                  r["children"].get<unsigned>(), r["median"].get<double>(), r["p99"].get<double>());
    out += line;
  }
  if (figures["ratios"].empty()) out += "no peer: " + figures["peer"].get<std::string>() + "\n";
  return out;
}

}  // namespace ntrace::bench
