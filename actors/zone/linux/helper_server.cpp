#include "actors/zone/linux/helper_server.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "actors/zone/disk_usage.hpp"
#include "actors/zone/linux/survivors.hpp"
#include "actors/zone/linux/syscall_filter.hpp"
#include "config/crash_point.hpp"
#include "config/ids.hpp"

namespace ntrace::zone {
namespace {

constexpr auto kill_deadline = std::chrono::seconds{10};  // docs/zones.md, "Exec, and the end"
constexpr milliseconds sweep_after{100};
constexpr std::size_t unproved_max = 16;  // generations whose P4 was not asked

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

helper_server::helper_server(helper_options options) : options_{std::move(options)} {
  if (is_root()) {
    // Its own mount namespace: no mount of ours is ever seen by the host.
    if (::unshare(CLONE_NEWNS) == 0) ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    ::prctl(PR_SET_DUMPABLE, 0);
  }
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  ::umask(077);
  layout_ = parse_cgroup_layout(read_file("/proc/self/mountinfo").value_or(""));
}

bool helper_server::is_root() const { return ::geteuid() == 0; }

result<zone_store*> helper_server::owned(const std::string& uuid) {
  if (!is_uuid(uuid)) return fail(ec::bad_argument, "\"" + uuid + "\" is not a zone's uuid");
  if (const auto at = stores_.find(uuid); at != stores_.end()) return &at->second;
  zone_store store{options_.data, uuid};
  if (auto facts = store.facts(); !facts) return fail(facts.error());
  if (auto locked = store.lock(); !locked) return fail(locked.error());
  // Reap, don't adopt: what an earlier life left running has lost its pipes and deadlines.
  if (is_root()) {
    // So that the parents that a killed helper left go with us; what is wrong, the boot tells.
    [[maybe_unused]] const auto held = hold_parents();
    if (auto reaped = zone_cgroup::reap(layout_, uuid + "."); !reaped) return fail(reaped.error());
  }
  // What a runtime noted of them is worth nothing without them.
  std::error_code ignored;
  std::filesystem::remove_all(runtime_state(uuid), ignored);
  boot_ids_[uuid] = machine_boot_id();
  return &stores_.emplace(uuid, std::move(store)).first->second;
}

result<nlohmann::json> helper_server::create(const nlohmann::json& request) {
  const auto uuid = request.value("uuid", "");
  if (!is_uuid(uuid)) return fail(ec::bad_argument, "\"" + uuid + "\" is not a zone's uuid");
  zone_store store{options_.data, uuid};
  if (auto made = store.create(is_root(), options_.ca_file,
                               request.value("provision", false) ? "image" : "clean");
      !made) {
    if (made.error().code != ec::invalid_state) [[maybe_unused]]
      const auto gone = store.destroy();  // Half made; the first error is the one that counts.
    return fail(made.error());
  }
  return nlohmann::json{{"uuid", uuid}};
}

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
                  root->overlay.get()},
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
  receipt.degraded.insert(receipt.degraded.end(), up->degraded.begin(), up->degraded.end());
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

/// An end that failed is tried again.
result<void> helper_server::expect_down(const std::string& uuid) {
  const auto at = live_.find(uuid);
  if (at == live_.end()) return {};
  if (!at->second.is_ending) return fail(ec::zone_busy, "zone " + uuid + " is up; end it first");
  if (auto ended = end(uuid); !ended) return fail(ended.error());
  return {};
}

result<nlohmann::json> helper_server::end(const std::string& uuid) {
  const auto at = live_.find(uuid);
  if (at == live_.end()) return nlohmann::json{{"was_up", false}};
  auto& zone = at->second;
  zone.is_ending = true;
  const auto until = steady_clock::now() + kill_deadline;
  const auto survives = [&] {
    return fail(ec::zone_failed, "zone " + uuid + " survives SIGKILL, and is killed again later: " +
                                     survivors(zone.name(), zone.pid));
  };
  if (zone.pid > 0) {
    ::kill(zone.pid, SIGKILL);  // Not reaped yet, so the number is still its own.
    if (zone.cgroup) zone.cgroup->kill();
    pollfd dead{zone.pidfd.get(), POLLIN, 0};
    const int n =
        ::poll(&dead, 1, static_cast<int>(std::chrono::milliseconds{kill_deadline}.count()));
    if (n <= 0) return survives();
    crash_point("zone.step");
    if (::waitpid(zone.pid, nullptr, 0) == zone.pid)
      unreaped_.erase(uuid);
    else
      unreaped_.insert(uuid);
    zone.pid = -1;
    crash_point("zone.step");
  }
  if (runtime_)
    if (auto gone = runtime_->forget(zone.name(), runtime_state(uuid)); !gone)
      return fail(gone.error());
  while (zone.cgroup && !zone.cgroup->remove()) {
    if (steady_clock::now() > until) return survives();
    zone.cgroup->kill();
    ::poll(nullptr, 0, 1);  // The kernel has no event for "rmdir would work now" on v1.
  }
  crash_point("zone.step");
  auto& ended = ended_[uuid];
  if (zone.self.user) ended.push_back(std::move(zone.self));
  // A zone that never gets as far as its proof must not collect descriptors.
  if (ended.size() > unproved_max) find_leftovers(stores_.at(uuid).ids(), {}, ended);
  auto stored = stores_.at(uuid).end_generation(zone.generation, zone.keep);
  crash_point("zone.step");
  live_.erase(at);
  plan_sweep();
  if (!stored) return fail(stored.error());
  return nlohmann::json{{"was_up", true}};
}

result<nlohmann::json> helper_server::serve(const nlohmann::json& request, fds& pass) {
  const auto op = request.value("op", "");
  const auto uuid = request.value("uuid", "");
  if (op == "create") return create(request);
  if (op == "boot") return boot(request, pass);
  if (op == "prove") return prove(uuid);
  if (op == "end") return end(uuid);
  auto store = owned(uuid);
  if (!store) return fail(store.error());
  if (op == "facts") {
    const auto facts = (*store)->facts();
    if (!facts) return fail(facts.error());
    return nlohmann::json{{"generation", facts->generation},
                          {"snapshot", facts->snapshot},
                          {"snapshots", facts->snapshots}};
  }
  const auto name = request.value("name", "clean");
  if (op == "delete_snapshot") {  // What runs does not stand on it, or it is refused.
    plan_sweep();
    if (auto gone = (*store)->delete_snapshot(name); !gone) return fail(gone.error());
    return nlohmann::json{{"deleted", name}};
  }
  if (auto down = expect_down(uuid); !down) return fail(down.error());
  drop_spare(uuid);  // It stands on the snapshot that is current now.
  plan_sweep();      // Each of these may leave something to delete.
  if (op == "snapshot") {
    if (auto made = (*store)->snapshot(name); !made) return fail(made.error());
    return nlohmann::json{{"snapshot", name}};
  }
  if (op == "rollback") {
    const auto newer = (*store)->rollback(name);
    if (!newer) return fail(newer.error());
    return nlohmann::json{{"snapshot", name}, {"deleted", *newer}};
  }
  if (op == "destroy") {
    if (auto gone = (*store)->destroy(); !gone) return fail(gone.error());
    stores_.erase(uuid);
    ended_.erase(uuid);
    unreaped_.erase(uuid);
    return nlohmann::json{{"destroyed", uuid}};
  }
  return fail(ec::defect, "unknown operation " + op);
}

/// Soon: the fork is a part of the next boot's time, so one does for several.
void helper_server::plan_sweep() {
  if (!sweep_at_) sweep_at_ = steady_clock::now() + sweep_after;
}

void helper_server::sweep() {
  // Deleting may take long; a child does it, so that the next boot does not wait. One at a time.
  sweep_at_.reset();
  if (sweeper_ > 0 && ::waitpid(sweeper_, nullptr, WNOHANG) == 0) return plan_sweep();
  sweeper_ = ::fork();
  if (sweeper_ < 0) plan_sweep();
  if (sweeper_ != 0) return;
  ::setpriority(PRIO_PROCESS, 0, 19);
  ::syscall(SYS_close_range, 0, ~0u, 0);  // Our locks and sockets are not its own.
  prune_receipts(options_.data);
  // What came to lie there meanwhile, too.
  while (empty_trash(options_.data)) {
  }
  _exit(0);
}

/// Returns when there is a request; meanwhile does what can wait.
void helper_server::await_request(int socket) {
  for (;;) {
    auto wait = milliseconds{-1};
    if (sweep_at_)
      wait = std::max(std::chrono::ceil<milliseconds>(*sweep_at_ - steady_clock::now()),
                      milliseconds{0});
    if (wait == milliseconds{0}) {
      sweep();
      continue;
    }
    if (!spares_due_.empty()) wait = milliseconds{0};
    pollfd request{socket, POLLIN, 0};
    if (::poll(&request, 1, static_cast<int>(wait.count())) != 0) return;
    if (spares_due_.empty()) continue;
    const auto due = spares_due_.extract(spares_due_.begin());
    make_spare(due.key(), due.mapped());
  }
}

void helper_server::run(int socket) {
  auto image = make_init_image();
  if (image) init_image_ = std::move(*image);
  auto filter = make_syscall_filter();
  if (filter)
    filter_ = std::move(*filter);
  else
    filter_problem_ = filter.error().message;
  std::string packet(64u << 10, '\0');
  for (;;) {
    await_request(socket);
    const auto n = ::recv(socket, packet.data(), packet.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    const auto asked = nlohmann::json::parse(packet.begin(), packet.begin() + n, nullptr, false);
    fds pass;
    auto answer = asked.is_object() ? serve(asked, pass) : fail(ec::defect, "not a request");
    nlohmann::json reply = answer ? nlohmann::json{{"ok", *answer}}
                                  : nlohmann::json{{"code", to_string(answer.error().code)},
                                                   {"message", answer.error().message}};
    const auto text = reply.dump();
    iovec part{const_cast<char*>(text.data()), text.size()};
    alignas(cmsghdr) char ancillary[CMSG_SPACE(2 * sizeof(int))]{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!pass.empty()) {
      message.msg_control = ancillary;
      message.msg_controllen = sizeof ancillary;
      auto* c = CMSG_FIRSTHDR(&message);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(2 * sizeof(int));
      std::memcpy(CMSG_DATA(c), pass.data(), 2 * sizeof(int));
    }
    const bool sent = ::sendmsg(socket, &message, MSG_NOSIGNAL) >= 0;
    for (const int fd : pass) ::close(fd);
    if (!sent) break;
  }
  while (!live_.empty()) {
    const auto uuid = live_.begin()->first;
    if (!end(uuid))
      live_.erase(uuid);  // Killed; what the kernel still holds, the next start reaps.
  }
  while (!spares_.empty()) drop_spare(std::string{spares_.begin()->first});
  empty_trash(options_.data);
  while (::waitpid(-1, nullptr, 0) > 0) {  // The sweeper: an orphan would stay a zombie for ever.
  }
  parents_.reset();
}

}  // namespace ntrace::zone
