// The roots that the helper boots zones from: made in the boot, or ahead of it.
#include <fcntl.h>

#include <cerrno>

#include "actors/zone/linux/helper_server.hpp"
#include "actors/zone/linux/host_files.hpp"
#include "actors/zone/linux/mounts.hpp"
#include "config/crash_point.hpp"

namespace ntrace::zone {
namespace {

constexpr std::uint64_t bytes_per_inode = 10u << 10;  // docs/zones.md, "Limits"

}  // namespace

result<helper_server::prepared_root> helper_server::prepare(const zone_store& store,
                                                            zone_store::root_plan plan,
                                                            bool is_volatile,
                                                            std::uint64_t tmpfs_bytes) const {
  prepared_root out{std::move(plan), tmpfs_bytes};
  bounded_folder bounded;
  if (tmpfs_bytes > 0) {
    auto made = bounded.cover(out.plan.folder, tmpfs_bytes, tmpfs_bytes / bytes_per_inode);
    if (made) made = store.make_writable(out.plan);
    if (!made) return fail(made.error());
  }
  out.upper = unique_fd{::open(out.plan.upper.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!out.upper) return fail(io_error("open", out.plan.upper, errno));
  if (store.ids().is_shared) return out;
  crash_point("zone.step");
  auto overlay =
      make_detached_overlay({out.plan.layers, out.plan.upper, out.plan.work, is_volatile});
  if (!overlay) return fail(overlay.error());
  out.overlay = std::move(*overlay);
  auto usr = make_usr(out.plan.layers.back());
  if (!usr) return fail(usr.error());
  out.usr = std::move(*usr);
  auto devices = make_devices();
  if (!devices) return fail(devices.error());
  out.devices = std::move(*devices);
  return out;
}

result<helper_server::prepared_root> helper_server::take_root(zone_store& store, bool fresh,
                                                              std::uint64_t tmpfs_bytes) {
  spares_due_.erase(store.uuid());
  auto spare = spares_.extract(store.uuid());
  if (spare && fresh && spare.mapped().tmpfs_bytes == tmpfs_bytes) return std::move(spare.mapped());
  plan_sweep();  // What a failed boot left goes to the trash here.
  auto plan = store.open_generation(fresh);
  if (!plan) return fail(plan.error());
  return prepare(store, std::move(*plan), fresh, tmpfs_bytes);
}

/// The next generation's root, made while this one runs: it is half of the time of a boot.
void helper_server::make_spare(const std::string& uuid, std::uint64_t tmpfs_bytes) {
  const auto at = stores_.find(uuid);
  if (at == stores_.end() || spares_.count(uuid) != 0) return;
  auto plan = at->second.next_generation();
  auto made = plan ? prepare(at->second, std::move(*plan), true, tmpfs_bytes) : fail(plan.error());
  if (made)
    spares_.emplace(uuid, std::move(*made));
  else
    spare_problems_[uuid] = made.error().message;  // The next boot has somebody to tell.
}

void helper_server::drop_spare(const std::string& uuid) {
  spares_due_.erase(uuid);
  const auto spare = spares_.extract(uuid);
  if (!spare) return;
  const auto generation = spare.mapped().plan.generation;
  // What cannot be moved now, the next boot moves.
  [[maybe_unused]] const auto gone = stores_.at(uuid).end_generation(generation, false);
}

}  // namespace ntrace::zone
