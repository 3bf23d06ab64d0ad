// A boot: cgroup, root, init and its receipt.
#include <fcntl.h>
#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <filesystem>

#include "actors/zone/disk_usage.hpp"
#include "actors/zone/linux/cpu_list.hpp"
#include "actors/zone/linux/helper_server.hpp"
#include "config/crash_point.hpp"

namespace ntrace::zone {
namespace {

/// The folder that is open as `fd`.
bool is_empty(int fd) {
  std::error_code unread;
  return std::filesystem::is_empty("/proc/self/fd/" + std::to_string(fd), unread) && !unread;
}

std::string kernel_release() {
  utsname facts{};
  return ::uname(&facts) == 0 ? facts.release : "";
}

}  // namespace

result<void> helper_server::hold_parents() {
  if (parents_) return {};
  auto held = cgroup_parents::hold(layout_, options_.backend == "oci");
  if (!held) return fail(held.error());
  parents_ = std::move(*held);
  return {};
}

result<std::optional<zone_cgroup>> helper_server::make_cgroup(const std::string& name,
                                                              clean_receipt& receipt) {
  const auto& limits = receipt.limits;
  const auto make = [&]() -> result<zone_cgroup> {
    if (auto held = hold_parents(); !held) return fail(held.error());
    return zone_cgroup::make(
        layout_, name,
        {limits.memory_bytes + limits.tmpfs_bytes(), limits.pids, limits.cpu_percent});
  };
  auto made = make();
  if (made) return std::optional{std::move(*made)};
  // What hinders one zone, but not all, passes; it is no reason to be without limits.
  if (parents_ && made.error().code == ec::io) return fail(made.error());
  if (!options_.allow_degraded)
    return fail(ec::zone_unsupported, "no limits on this machine (" + made.error().message +
                                          "); run as root, or set zone_allow_degraded");
  receipt.degraded.emplace_back("limits");
  return std::optional<zone_cgroup>{};
}

/// Programs count the CPUs that they may run on, and know nothing of a share of their time.
std::vector<int> helper_server::cpus_for(const std::string& uuid, std::uint64_t percent) const {
  cpu_set_t ours;
  CPU_ZERO(&ours);
  if (::sched_getaffinity(0, sizeof ours, &ours) != 0) return {};
  std::vector<int> allowed;
  for (int cpu = 0; cpu < cpus_max; ++cpu)
    if (CPU_ISSET(static_cast<unsigned>(cpu), &ours)) allowed.push_back(cpu);
  std::map<int, unsigned> load;
  for (const auto& [other, zone] : live_)
    for (const int cpu : zone.cpus) ++load[cpu];
  return choose_cpus(allowed, load, percent, std::hash<std::string>{}(uuid));
}

std::string helper_server::runtime_state(const std::string& uuid) const {
  return options_.data + "/zones/" + uuid + "/runtime";
}

result<booted> helper_server::start_init(const boot_plan& plan, live_zone& zone) {
  if (options_.backend != "oci") return boot_zone(plan);
  if (!runtime_) {
    auto found = oci_runtime::find();
    if (!found) return fail(found.error());
    runtime_ = std::move(*found);
  }
  auto up = runtime_->boot(plan, zone.name(), runtime_state(zone.store.uuid()));
  if (zone.cgroup) zone.cgroup->adopt_others(layout_);
  return up;
}

/// Above the reserve, when need be by deleting what is dead.
result<void> helper_server::expect_room() const {
  auto room = room_on_disk_of(options_.data);
  if (room && room->is_below_reserve()) {
    empty_trash(options_.data);
    room = room_on_disk_of(options_.data);
  }
  if (!room || !room->is_below_reserve()) return {};
  return fail(ec::io,
              "No space left for zones on the disk of " + options_.data + ": " +
                  std::to_string(room->bytes) + " bytes and " + std::to_string(room->files) +
                  " files are free, and " + std::to_string(room->bytes_reserve) + " and " +
                  std::to_string(room->files_reserve) + " are kept for the rest of the machine");
}

result<nlohmann::json> helper_server::boot(const nlohmann::json& request, fds& pass) {
  const auto uuid = request.value("uuid", "");
  auto store = owned(uuid);
  if (!store) return fail(store.error());
  if (auto down = expect_down(uuid); !down) return fail(down.error());
  if (!is_root() && !options_.allow_degraded)
    return fail(ec::zone_unsupported,
                "zones with one user id need zone_allow_degraded; as root they have their own ids");
  if (!is_root() && options_.backend == "oci")
    return fail(ec::zone_unsupported, "zone_backend = oci needs root");
  if (filter_.empty()) return fail(ec::zone_unsupported, filter_problem_);
  const bool fresh = request.value("fresh", true);
  // What is thrown away faster than it is deleted must not fill the disk.
  if ((*store)->trash_entries() > trash_max) empty_trash(options_.data);
  if (auto room = expect_room(); !room) return fail(room.error());
  const zone_limits usual;
  zone_limits limits{
      request.value("memory_bytes", usual.memory_bytes), request.value("pids", usual.pids),
      request.value("cpu_percent", usual.cpu_percent),
      request.value("disk_bytes", usual.disk_bytes), request.value("disk_in_memory", false)};
  // What is kept for the next boot must be on the disk, and only root can mount another one. A
  // person who prepares a snapshot is not bounded.
  if (!fresh || (*store)->ids().is_shared) limits.disk_in_memory = false;
  if (!fresh) limits.disk_bytes = 0;
  auto root = take_root(**store, fresh, limits.tmpfs_bytes());
  if (!root) return fail(root.error());
  crash_point("zone.step");
  const auto& plan = root->plan;
  live_zone zone{zone_store{options_.data, uuid}, plan.generation, !fresh};
  const auto name = zone.name();
  zone.was_absent = zone_cgroup::is_absent(layout_, name);
  zone.was_empty = !plan.is_new || is_empty(root->upper.get());
  zone.is_new = plan.is_new;
  auto& receipt = zone.receipt;
  receipt.zone = uuid;
  receipt.generation = plan.generation;
  receipt.snapshot = plan.snapshot;
  receipt.backend = options_.backend;
  receipt.kernel = kernel_release();
  receipt.limits = limits;
  if (!limits.disk_in_memory)
    receipt.degraded.emplace_back(limits.disk_bytes == 0 ? "disk" : "disk:watched");
  if ((*store)->ids().is_shared) receipt.degraded.emplace_back("uid_range");
  auto group = make_cgroup(name, receipt);
  if (!group) return fail(group.error());
  zone.cgroup = std::move(*group);
  if (zone.cgroup) zone.cpus = cpus_for(uuid, limits.cpu_percent);
  auto up =
      start_init({plan,
                  fresh,
                  request.value("network", false),
                  (*store)->ids(),
                  zone.cgroup ? &*zone.cgroup : nullptr,
                  {limits.memory_bytes + limits.tmpfs_bytes(), limits.pids, limits.cpu_percent},
                  init_image_.get(),
                  &filter_,
                  limits.memory_bytes / 2,
                  {root->overlay.get(), root->usr.get(), root->devices.get()},
                  zone.cgroup ? zone.cgroup->views(layout_) : std::vector<limits_view>{},
                  format_cpu_list(zone.cpus)},
                 zone);
  if (!up) {
    if (zone.cgroup) zone.cgroup->remove();
    if (auto ended = (*store)->end_generation(plan.generation, !fresh); !ended)
      return fail(ended.error());
    return fail(up.error());
  }
  crash_point("zone.step");
  zone.pid = up->pid;
  zone.pidfd = std::move(up->pidfd);
  const auto namespaces = namespaces_of(zone.pid);
  if (namespaces) zone.self = {*namespaces, std::move(up->user)};
  // While init sets up the inside: what of the proof does not wait for it.
  zone.left = find_leftovers((*store)->ids(), zone.self.namespaces, ended_[uuid]);
  auto broken = (*store)->broken_layer(receipt);
  zone.broken_layer = broken ? std::move(*broken) : broken.error().message;
  crash_point("zone.step");
  nlohmann::json answer{{"pid", zone.pid},
                        {"id_job", (*store)->ids().job},
                        {"uid", (*store)->ids().is_shared ? 0 : 1000},
                        {"cgroup", zone.cgroup ? zone.cgroup->v2_path() : ""},
                        {"memory_path", zone.cgroup ? zone.cgroup->memory_path() : ""},
                        {"upper", plan.upper},
                        {"disk_bytes", limits.disk_bytes},
                        {"disk_in_memory", limits.disk_in_memory}};
  if (const auto problem = spare_problems_.extract(uuid)) answer["spare_failed"] = problem.mapped();
  const int pidfd = ::fcntl(zone.pidfd.get(), F_DUPFD_CLOEXEC, 0);
  live_.emplace(uuid, std::move(zone));
  if (pidfd < 0) {
    const auto why = io_error("pass the descriptors of zone", uuid, errno);
    if (auto ended = end(uuid); !ended) return ended;
    return fail(why);
  }
  pass = {up->control.release(), pidfd};
  return answer;
}

}  // namespace ntrace::zone
