#include "tests/chaos/judged_faults.hpp"

#include <poll.h>
#include <signal.h>

#include <algorithm>

#include "tests/chaos/zone_census.hpp"
#include "tests/support/leftovers.hpp"

namespace ntrace::chaos {
namespace {

using nlohmann::json;

constexpr milliseconds second_max{15'000}, waiter_max{20'000}, lease_wait_max{5'000};
/// The kernel ends a zone at once; a busy machine takes its time to let the last process go.
constexpr milliseconds kill_max{500};

void wait_until(time_point end) {
  for (auto now = steady_clock::now(); now < end; now = steady_clock::now())
    ::poll(nullptr, 0, static_cast<int>(std::chrono::ceil<milliseconds>(end - now).count()));
}

/// The open runs that wait for `host`.
std::vector<std::string> waiters(const fleet& all, const std::string& host) {
  std::vector<std::string> out;
  const auto rows = all.ask(0, "runs", json::array({{{"state", "queued"}, {"limit", 100}}}));
  if (!rows) return out;
  for (const auto& row : *rows)
    if (row.value("outage", json::object()).value("host", "") == host)
      out.push_back(row.value("run", ""));
  return out;
}

/// What keeps a run in the queue is on record, with the host and the next try.
bool is_on_record(const json& why, const std::string& host) {
  const auto& met = why.value("outage", json::object());
  return met.value("host", "") == host && met.value("tries", 0) > 0 && met.contains("next_try_ms");
}

/// Before the next try is due: from then on it waits for a runner.
bool is_told(const json& why, const std::string& host) {
  const auto text = why.value("waits_for", "");
  return text.starts_with(host + ": ") && text.find(", next try in ") != std::string::npos;
}

/// All that holds the zones of a node, but for the runner.
std::vector<int> holders(const scene& s) {
  std::vector<int> out;
  for (const char* name : {"ntrace-watchdog", "ntrace-helper", "ntrace-init"})
    for (const int pid : test::descendants(s.all.server(s.node).pid(), name)) out.push_back(pid);
  return out;
}

/// In one of three ways; watchdogs go first, for each lets its init go on.
void stop_some(const scene& s) {
  s.all.server(s.node).signal(SIGSTOP);
  const auto how = s.random.below(3);
  if (how == 1 && s.all.helper(s.node) > 0) ::kill(s.all.helper(s.node), SIGSTOP);
  if (how == 2)
    for (const int pid : holders(s)) ::kill(pid, SIGSTOP);
}

std::string listed(const std::vector<process_id>& all) {
  std::string out;
  for (const auto& one : all) out += (out.empty() ? "" : ", ") + std::to_string(one.pid);
  return out;
}

}  // namespace

result<void> second_owner(scene& s) {
  const auto& first = s.all.server(s.node);
  const int owner = first.pid();
  if (!first.lives()) return fail(ec::not_found, "it does not run now");
  const auto seen = s.all.try_second(s.node, second_max);
  if (!seen) return fail(seen.error());
  if (!first.lives() || first.pid() != owner) return fail(ec::not_found, "its owner ended");
  const auto said = json::parse(seen->out, nullptr, false);
  const auto no = said.is_object() ? said.value("error", json::object()) : json::object();
  if (seen->exit_code != 4 || no.value("code", "") != "folder_busy" ||
      no.value("pid", "") != std::to_string(owner))
    s.broken.push_back(
        {"owner", "a second " + first.name() + " on the folder of process " +
                      std::to_string(owner) + " was not refused in its name within " +
                      std::to_string(second_max.count() / 1000) + " s: exit code " +
                      std::to_string(seen->exit_code) + ", " + seen->out.substr(0, 300)});
  return {};
}

result<void> take_forge_away(scene& s) {
  const auto host = s.all.sources().host();
  if (auto away = s.all.sources().take_away(s.all.network(), s.node, s.random); !away) return away;
  const auto end = steady_clock::now() + waiter_max;
  bool is_met = false;
  for (; steady_clock::now() < end; wait_a_little())
    for (const auto& run : waiters(s.all, host)) {
      const auto why = s.all.ask(0, "why", json::array({run}));
      if (!why || why->value("state", "") != "queued" || !why->contains("outage")) continue;
      is_met = true;
      if (!is_on_record(*why, host))
        s.broken.push_back({"outage", "the record of a run that waits for " + host +
                                          " lacks the host or the next try: " + why->dump()});
      if (is_told(*why, host)) return {};
    }
  return fail(ec::not_found,
              is_met ? "no run waited for long enough to be seen to" : "no run needed the forge");
}

result<void> outlive_lease(scene& s) {
  const auto end = steady_clock::now() + lease_wait_max;
  while (leased_zones(s.all.helper(s.node)).empty()) {
    if (steady_clock::now() > end) return fail(ec::not_found, "no zone holds a lease now");
    wait_a_little();
  }
  stop_some(s);
  const auto stopped = steady_clock::now();
  const auto zones = leased_zones(s.all.helper(s.node));
  if (zones.empty()) return fail(ec::not_found, "no zone holds a lease now");
  wait_until(stopped + fleet::lease + kill_max);
  for (const auto& zone : zones)
    if (const auto left = living_in(zone.group); !left.empty())
      s.broken.push_back({"S12", "processes " + listed(left) + " are alive in " + zone.group +
                                     " of " + s.all.server(s.node).name() +
                                     ", which was stopped longer than its lease of " +
                                     std::to_string(fleet::lease.count()) + " ms lasts"});
  return {};
}

result<void> go_on_all(scene& s) {
  for (const int pid : holders(s)) ::kill(pid, SIGCONT);
  s.all.server(s.node).signal(SIGCONT);
  return {};
}

}  // namespace ntrace::chaos
