// The helper's proof that a zone which is up is clean: docs/zones.md, "Proof of clean".
#include <unistd.h>

#include <algorithm>

#include "actors/zone/linux/helper_server.hpp"
#include "config/crash_point.hpp"

namespace ntrace::zone {
namespace {

bool is_below(const std::string& mountinfo, const std::string& path) {
  return mountinfo.find(" " + path) != std::string::npos;
}

}  // namespace

/// The proof of clean of a zone that says that it is up: from outside, and before it runs anything.
/// From here on the zone's `lease` is held, when it has one.
result<nlohmann::json> helper_server::prove(const std::string& uuid, unique_fd lease) {
  const auto at = live_.find(uuid);
  if (at == live_.end()) return fail(ec::invalid_state, "zone " + uuid + " is not up");
  auto& zone = at->second;
  crash_point("zone.step");
  const auto live = namespaces_of(zone.pid);
  const auto ours = namespaces_of(::getpid());
  if (!live || !ours)
    return fail(ec::zone_failed, "zone " + uuid + "'s init ended before its proof");
  if (lease) {
    auto held = lease_watchdog::start(zone.pid, zone.pidfd.get(), std::move(lease));
    if (!held) return fail(held.error());
    if (!held->is_tied()) zone.receipt.degraded.emplace_back("lease:watched");
    zone.watchdog.emplace(std::move(*held));
  }
  const auto ids = stores_.at(uuid).ids();
  // Ours, and those that everybody on the host sees.
  const auto mountinfo =
      read_file("/proc/self/mountinfo").value_or("") +
      read_file("/proc/" + std::to_string(::getppid()) + "/mountinfo").value_or("");
  const std::string no_limits = options_.allow_degraded ? "" : "it has no limits";
  auto& receipt = zone.receipt;
  receipt.at_ms = wall_ms();
  receipt.checks.clear();
  const auto check = [&receipt](const char* id, const std::string& wrong) {
    receipt.checks.push_back({id, wrong.empty(), wrong});
  };
  const auto unless = [](bool ok, const char* wrong) { return std::string{ok ? "" : wrong}; };
  check("P1", unless(zone.was_absent, "a cgroup of this generation existed"));
  check("P2", unless(unreaped_.count(uuid) == 0, "an init of before is not reaped"));
  check("P3", zone.left.in_range);
  check("P4", zone.left.stayed);
  check("P5", unless(!is_below(mountinfo, zone.store.path()), "a mount of the zone on the host"));
  check("P6",
        unless(zone.was_empty && (zone.is_new || zone.keep), "the writable layer was not empty"));
  check("P7", zone.broken_layer);
  bool is_apart = true;
  for (std::size_t i = 0; i < ours->size(); ++i) is_apart = is_apart && (*live)[i] != (*ours)[i];
  check("P8", unless(is_apart, "it shares a namespace with the host"));
  auto unlimited = zone.cgroup ? zone.cgroup->changed_limit() : no_limits;
  if (unlimited.empty() && zone.cgroup) unlimited = zone.cgroup->escaped(layout_, zone.pid);
  check("P9", unlimited);
  check("P10", open_box(zone.pid, ids, receipt.limits.pids));
  for (auto& one :
       shared_with_host(read_file("/proc/" + std::to_string(zone.pid) + "/mountinfo").value_or("")))
    if (std::find(receipt.degraded.begin(), receipt.degraded.end(), one) == receipt.degraded.end())
      receipt.degraded.push_back(std::move(one));
  check("P11", unless(boot_ids_[uuid] == machine_boot_id(), "the machine was booted meanwhile"));
  check("P12", unless(zone.store.trash_entries() <= trash_max, "the trash is beyond its bound"));
  if (auto kept = zone.store.keep_receipt(receipt); !kept) return fail(kept.error());
  if (!zone.keep && is_root()) spares_due_.emplace(uuid, receipt.limits.tmpfs_bytes());
  return to_json(receipt);
}

}  // namespace ntrace::zone
