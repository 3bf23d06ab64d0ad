#include "actors/zone/linux/namespaces.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "actors/zone/linux/init_wire.hpp"
#include "actors/zone/linux/mounts.hpp"
#include "actors/zone/linux/sealed_program.hpp"
#include "actors/zone/linux/syscall_filter.hpp"

// The static zone init, put into this object by the assembler (see CMakeLists.txt).
extern "C" const char ntrace_zone_init_begin[];
extern "C" const char ntrace_zone_init_end[];

namespace ntrace::zone {
namespace {

constexpr int mounts_max = 3;  // root, /usr, /dev

[[noreturn]] void fail_step(const std::string& step) { throw step + ": " + std::strerror(errno); }

/// Why there is no new zone, which may pass: clone(2), namespaces(7).
error clone_error(int code) {
  const std::string what = std::string{"clone3 of the zone's namespaces: "} + std::strerror(code);
  if (code == EAGAIN)
    return {ec::zone_failed,
            what +
                "; no process is left: see pids.max of the runner's cgroup and "
                "kernel.pid_max",
            {}};
  if (code == ENOSPC)
    return {ec::zone_failed,
            what +
                "; no namespace is left: see user.max_net_namespaces and its "
                "like",
            {}};
  if (code == ENOMEM) return {ec::zone_failed, what, {}};
  return {ec::zone_unsupported, what + "; see `ntrace doctor`", {}};
}

void tell_refused(int fd, const std::string& step) {
  init_record r;
  r.op = init_op::refused;
  r.cwd = step;
  const auto packet = encode(r);
  // When the runner is gone there is nobody left to tell.
  [[maybe_unused]] const auto sent = ::send(fd, packet.data(), packet.size(), MSG_NOSIGNAL);
}

void bring_loopback_up() {
  const unique_fd fd{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  if (!fd || ::ioctl(fd.get(), SIOCSIFFLAGS, &request) != 0) fail_step("bring lo up");
}

/// Leaves what starting a job needs; the job itself has nothing.
void drop_bounding_set() {
  for (int cap = 0, done = 0; done == 0; ++cap)
    if (((init_capabilities >> cap) & 1) == 0) done = ::prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

/// Waits for the helper's word, and the detached mounts that come with it.
made_mounts await_go(int control, bool with_devices) {
  std::array<int, mounts_max> mounts{-1, -1, -1};
  char word = 0;
  iovec part{&word, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(mounts_max * sizeof(int))> ancillary{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = ancillary.data();
  message.msg_controllen = ancillary.size();
  if (::recvmsg(control, &message, MSG_CMSG_CLOEXEC) != 1) _exit(1);
  if (const auto* c = CMSG_FIRSTHDR(&message); c != nullptr && c->cmsg_type == SCM_RIGHTS) {
    const auto count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    std::memcpy(mounts.data(), CMSG_DATA(c),
                std::min<std::size_t>(count, mounts_max) * sizeof(int));
  }
  return {mounts[0], mounts[1], with_devices ? mounts[2] : -1};
}

/// Before anything else, so that nothing of the zone is ever outside. The namespace comes last: its
/// root is where its maker is, so the host's names stay out of /proc/PID/cgroup.
void join_groups(const std::vector<unique_fd>& joins) {
  for (const auto& file : joins)
    if (::write(file.get(), "0", 1) != 1) fail_step("join the zone's cgroup");
  if (::unshare(CLONE_NEWCGROUP) != 0) fail_step("make a cgroup namespace");
}

/// Sets the effective ids, and keeps the rights that the change takes away. False with errno set.
bool act_as(std::uint32_t id) {
  __user_cap_header_struct head{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct rights[2]{};
  return ::syscall(SYS_capget, &head, rights) == 0 && ::setresgid(-1u, id, -1u) == 0 &&
         ::setresuid(-1u, id, -1u) == 0 && ::syscall(SYS_capset, &head, rights) == 0;
}

/// clone3(2) with its flags for new namespaces, as the zone's root: what the kernel counts in a
/// user namespace it also charges to the user that made it (user_namespaces(7)), so nothing of a
/// zone is charged to root or to another zone. -1 with errno set.
int clone_as_zone(clone_args& args, const zone_ids& ids) {
  const bool is_ready = ids.is_shared || act_as(ids.root);
  const auto pid = is_ready ? static_cast<int>(::syscall(SYS_clone3, &args, sizeof args)) : -1;
  if (pid == 0 || ids.is_shared) return pid;
  const int why = errno;
  // A helper that is not root any more serves nobody: it ends, and another one is started.
  if (!act_as(0)) ::abort();
  ::prctl(PR_SET_DUMPABLE, 0);  // Each change of the effective user resets it.
  errno = why;
  return pid;
}

[[noreturn]] void run_child(const boot_plan& plan, const std::vector<unique_fd>& joins, int go,
                            int control) {
  try {
    join_groups(joins);
    const auto mounts = await_go(go, plan.mounts.devices >= 0);
    if (::setresgid(0, 0, 0) != 0 || ::setresuid(0, 0, 0) != 0)
      fail_step("become root of the zone");
    ::umask(022);  // Ours is stricter, and the job has to find its way.
    enter_root(mounts, {plan.root.layers, plan.root.upper, plan.root.work, plan.is_volatile},
               plan.tmp_bytes, plan.limits_views);
    constexpr std::string_view no_domain = "(none)";  // as the kernel begins
    if (::sethostname("zone", 4) != 0 || ::setdomainname(no_domain.data(), no_domain.size()) != 0)
      fail_step("sethostname");
    bring_loopback_up();
    if (::dup2(control, init_control_fd) < 0) fail_step("place the control socket");
    // The image must stay open for its own exec; close-on-exec takes it away then.
    const unique_fd image{::fcntl(plan.init_image, F_DUPFD_CLOEXEC, 10)};
    ::syscall(SYS_close_range, init_control_fd + 1, image.get() - 1, 0);
    ::syscall(SYS_close_range, image.get() + 1, ~0u, 0);
    const unique_fd null{::open("/dev/null", O_RDWR | O_CLOEXEC)};
    for (int fd = 0; fd < 3; ++fd)
      if (::dup2(null.get(), fd) < 0) fail_step("set up stdio");
    auto words = init_words(plan);
    words.insert(words.begin(), "zone-init");
    std::vector<char*> argv;
    for (auto& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    char* env[] = {nullptr};
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    drop_bounding_set();
    if (!install_syscall_filter(*plan.filter)) fail_step("install the filter of system calls");
    ::syscall(SYS_execveat, image.get(), "", argv.data(), env, AT_EMPTY_PATH);
    fail_step("start zone init");
  } catch (const std::string& step) {
    tell_refused(control, step);
  }
  _exit(1);
}

result<void> write_proc(int pid, const char* file, const std::string& text) {
  const auto path = "/proc/" + std::to_string(pid) + "/" + file;
  const unique_fd fd{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
  if (!fd || !write_all(fd.get(), text)) return fail(io_error("write", path, errno));
  return {};
}

result<void> map_ids(int pid, const zone_ids& ids) {
  if (!ids.is_shared) {
    const auto map = "0 " + std::to_string(ids.root) + " 65536";
    if (auto w = write_proc(pid, "uid_map", map); !w) return w;
    return write_proc(pid, "gid_map", map);
  }
  if (auto w = write_proc(pid, "setgroups", "deny"); !w) return w;
  if (auto w = write_proc(pid, "uid_map", "0 " + std::to_string(::geteuid()) + " 1"); !w) return w;
  return write_proc(pid, "gid_map", "0 " + std::to_string(::getegid()) + " 1");
}

result<void> send_go(int control, const made_mounts& made) {
  // One that is not there is left out, and they are in order: none follows it.
  const std::array<int, mounts_max> mounts{made.root, made.usr, made.devices};
  const auto bytes =
      static_cast<std::size_t>(made.devices >= 0 ? mounts_max : mounts_max - 1) * sizeof(int);
  char word = 1;
  iovec part{&word, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(mounts_max * sizeof(int))> ancillary{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (mounts[0] >= 0) {
    message.msg_control = ancillary.data();
    message.msg_controllen = CMSG_SPACE(bytes);
    auto* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(bytes);
    std::memcpy(CMSG_DATA(c), mounts.data(), bytes);
  }
  if (::sendmsg(control, &message, MSG_NOSIGNAL) != 1)
    return fail(io_error("release", "zone init", errno));
  return {};
}

}  // namespace

result<unique_fd> open_user_namespace(int pid) {
  const auto path = "/proc/" + std::to_string(pid) + "/ns/user";
  unique_fd out{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!out) return fail(io_error("open", path, errno));
  return out;
}

std::uint64_t sockets_of(std::uint64_t memory_bytes) {
  constexpr std::uint64_t usual = 212'992, least = 256;
  const auto text = read_file("/proc/sys/net/core/rmem_default", 64);
  const auto queue = text ? std::strtoull(text->c_str(), nullptr, 10) : usual;
  return std::max<std::uint64_t>(least, memory_bytes / std::max<std::uint64_t>(queue, 1));
}

std::vector<std::string> init_words(const boot_plan& plan) {
  std::vector<std::string> out{"pids=" + std::to_string(plan.limits.pids),
                               "sockets=" + std::to_string(sockets_of(plan.limits.memory_bytes))};
  if (plan.ids.is_shared) out.emplace_back("shared");
  if (plan.with_network) out.emplace_back("network");
  if (!plan.cpus.empty()) out.push_back("cpus=" + plan.cpus);
  return out;
}

result<unique_fd> make_user_namespace(const zone_ids& ids) {
  clone_args args{};
  args.flags = CLONE_NEWUSER;
  args.exit_signal = SIGCHLD;
  const auto pid = clone_as_zone(args, ids);
  if (pid == 0)
    for (;;) ::pause();
  if (pid < 0) return fail(clone_error(errno));
  auto out = open_user_namespace(pid);
  if (out)
    if (auto mapped = map_ids(pid, ids); !mapped) out = fail(mapped.error());
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  return out;
}

result<unique_fd> make_init_image() {
  return make_sealed_program("ntrace-zone-init", ntrace_zone_init_begin, ntrace_zone_init_end);
}

result<booted> boot_zone(const boot_plan& plan) {
  std::array<int, 2> go{}, control{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, go.data()) != 0)
    return fail(io_error("socketpair", "zone", errno));
  unique_fd go_ours{go[0]}, go_child{go[1]};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control.data()) != 0)
    return fail(io_error("socketpair", "zone", errno));
  booted out;
  out.control = unique_fd{control[0]};
  unique_fd control_child{control[1]};
  std::vector<unique_fd> joins;
  if (plan.cgroup != nullptr) {
    auto opened = plan.cgroup->open_joins();
    if (!opened) return fail(opened.error());
    joins = std::move(*opened);
  }
  unique_fd group;
  int pidfd = -1;
  clone_args args{};
  args.flags = CLONE_PIDFD | CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET |
               CLONE_NEWIPC | CLONE_NEWUTS;
  args.exit_signal = SIGCHLD;
  args.pidfd = reinterpret_cast<std::uintptr_t>(&pidfd);
  if (plan.cgroup != nullptr && !plan.cgroup->v2_path().empty()) {
    group = unique_fd{::open(plan.cgroup->v2_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<std::uint64_t>(group.get());
  }
  const auto pid = clone_as_zone(args, plan.ids);
  if (pid < 0) return fail(clone_error(errno));
  if (pid == 0) {
    go_ours.reset();
    out.control.reset();
    run_child(plan, joins, go_child.get(), control_child.get());
  }
  out.pid = pid;
  out.pidfd = unique_fd{pidfd};
  const auto undo = [&](const error& e) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return fail(e);
  };
  auto user = open_user_namespace(pid);
  if (!user) return undo(user.error());
  out.user = std::move(*user);
  if (auto mapped = map_ids(pid, plan.ids); !mapped) return undo(mapped.error());
  if (auto sent = send_go(go_ours.get(), plan.mounts); !sent) return undo(sent.error());
  return out;
}

}  // namespace ntrace::zone
