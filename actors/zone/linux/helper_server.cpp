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
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "actors/zone/linux/survivors.hpp"
#include "actors/zone/linux/syscall_filter.hpp"
#include "config/crash_point.hpp"
#include "config/ids.hpp"
#include "config/json_parse.hpp"

namespace ntrace::zone {
namespace {

constexpr auto kill_deadline = std::chrono::seconds{10};  // docs/zones.md, "Exec, and the end"
constexpr milliseconds sweep_after{100};
constexpr std::size_t unproved_max = 16;  // generations whose P4 was not asked

/// As recv(2), with the descriptor that came along.
ssize_t receive_request(int socket, std::string& packet, unique_fd& given) {
  alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof(int))];
  iovec part{packet.data(), packet.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = ancillary;
  message.msg_controllen = sizeof ancillary;
  const auto n = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  int passed = -1;
  if (const auto* c = n > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
      c != nullptr && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
    std::memcpy(&passed, CMSG_DATA(c), sizeof passed);
  given = unique_fd{passed};
  return n;
}

}  // namespace

helper_server::helper_server(helper_options options) : options_{std::move(options)} {
  if (is_root()) {
    // Its own mount namespace: no mount of ours is ever seen by the host. But what the host
    // unmounts we must not hold, or its disks could not be repaired or taken out while we run.
    if (::unshare(CLONE_NEWNS) == 0) ::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr);
    ::prctl(PR_SET_DUMPABLE, 0);
    // What a zone inherits: none there could raise it again. zone_rlimits.hpp says why.
    const rlimit core{1, 1};
    ::setrlimit(RLIMIT_CORE, &core);
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
  zone.watchdog.reset();  // Before init is reaped, which its tracer could hold up.
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

result<nlohmann::json> helper_server::serve(const nlohmann::json& request, unique_fd given,
                                            fds& pass) {
  const auto op = request.value("op", "");
  const auto uuid = request.value("uuid", "");
  if (op == "create") return create(request);
  if (op == "boot") return boot(request, pass);
  if (op == "prove") return prove(uuid, std::move(given));
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
    unique_fd given;
    const auto n = receive_request(socket, packet, given);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    const auto asked = parse_or_discard({packet.data(), static_cast<std::size_t>(n)});
    fds pass;
    auto answer = asked.is_object() ? serve(asked, std::move(given), pass)
                                    : fail(ec::defect, "not a request");
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
