#include "actors/zone/linux/mounts.hpp"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

// <sys/mount.h> and <linux/mount.h> contradict each other in glibc 2.36; the old calls are named
// here.
extern "C" {
int mount(const char*, const char*, const char*, unsigned long, const void*) noexcept;
int umount2(const char*, int) noexcept;
}

namespace ntrace::zone {
namespace {

constexpr unsigned long ms_rdonly = 1, ms_nosuid = 2, ms_nodev = 4, ms_noexec = 8, ms_remount = 32,
                        ms_bind = 4096, ms_rec = 16384, ms_private = 1 << 18;
constexpr int mnt_detach = 2;

int fsopen(const char* type) {
  return static_cast<int>(::syscall(SYS_fsopen, type, FSOPEN_CLOEXEC));
}
bool fsconfig(int fd, unsigned command, const char* key, const char* value) {
  return ::syscall(SYS_fsconfig, fd, command, key, value, 0) == 0;
}
bool move_mount(int fd, const char* to) {
  return ::syscall(SYS_move_mount, fd, "", AT_FDCWD, to, MOVE_MOUNT_F_EMPTY_PATH) == 0;
}

/// A path that names an open folder whatever characters its real name has.
std::string fd_path(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

[[noreturn]] void fail_step(const std::string& step) { throw step + ": " + std::strerror(errno); }

void mount_or_fail(const char* source, const std::string& to, const char* type, unsigned long flags,
                   const std::string& options = {}) {
  if (::mount(source, to.c_str(), type, flags, options.empty() ? nullptr : options.c_str()) != 0)
    fail_step("mount " + to);
}

std::string overlay_options(const overlay_plan& plan) {
  std::string lower;
  for (const auto& layer : plan.layers) lower += (lower.empty() ? "" : ":") + layer;
  return "lowerdir=" + lower + ",upperdir=" + plan.upper + ",workdir=" + plan.work + ",userxattr" +
         (plan.is_volatile ? ",volatile" : "");
}

void make_devices(const std::string& root, const std::string& size) {
  const auto dev = root + "/dev";
  mount_or_fail("tmpfs", dev, "tmpfs", ms_nosuid | ms_noexec, "size=64k,mode=755");
  for (const char* name : {"null", "zero", "full", "random", "urandom", "tty"}) {
    const auto to = dev + "/" + name;
    const unique_fd file{::open(to.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666)};
    if (!file) fail_step("create " + to);
    mount_or_fail((std::string{"/dev/"} + name).c_str(), to, nullptr, ms_bind);
  }
  for (const char* folder : {"/pts", "/shm"})
    if (::mkdir((dev + folder).c_str(), 0755) != 0) fail_step("mkdir " + dev + folder);
  mount_or_fail("devpts", dev + "/pts", "devpts", ms_nosuid | ms_noexec,
                "newinstance,ptmxmode=0666,mode=0620");
  mount_or_fail("tmpfs", dev + "/shm", "tmpfs", ms_nosuid | ms_nodev, size + ",mode=1777");
  constexpr std::pair<const char*, const char*> links[] = {{"/proc/self/fd", "/fd"},
                                                           {"/proc/self/fd/0", "/stdin"},
                                                           {"/proc/self/fd/1", "/stdout"},
                                                           {"/proc/self/fd/2", "/stderr"},
                                                           {"pts/ptmx", "/ptmx"}};
  for (const auto& [target, name] : links)
    if (::symlink(target, (dev + name).c_str()) != 0) fail_step("link " + dev + name);
}

void hide_kernel_files(const std::string& root) {
  for (const char* name : {"/proc/kcore", "/proc/keys", "/proc/sysrq-trigger", "/proc/timer_list"})
    if (::access((root + name).c_str(), F_OK) == 0)
      mount_or_fail("/dev/null", root + name, nullptr, ms_bind);
  for (const char* name : {"/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs"}) {
    const auto path = root + name;
    if (::access(path.c_str(), F_OK) != 0) continue;
    mount_or_fail(path.c_str(), path, nullptr, ms_bind);
    mount_or_fail(nullptr, path, nullptr,
                  ms_bind | ms_remount | ms_rdonly | ms_nosuid | ms_nodev | ms_noexec);
  }
}

}  // namespace

bounded_folder::~bounded_folder() {
  if (!folder_.empty()) ::umount2(folder_.c_str(), mnt_detach);
}

result<void> bounded_folder::cover(const std::string& folder, std::uint64_t bytes,
                                   std::uint64_t inodes) {
  const auto options =
      "mode=0700,size=" + std::to_string(bytes) + ",nr_inodes=" + std::to_string(inodes);
  if (::mount("tmpfs", folder.c_str(), "tmpfs", ms_nosuid | ms_nodev, options.c_str()) != 0)
    return fail(io_error("mount a tmpfs on", folder, errno));
  folder_ = folder;
  return {};
}

result<unique_fd> make_detached_overlay(const overlay_plan& plan) {
  std::vector<unique_fd> held;
  const auto by_fd = [&held](const std::string& path) {
    held.emplace_back(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    return fd_path(held.back().get());
  };
  std::string lower;
  for (const auto& layer : plan.layers) lower += (lower.empty() ? "" : ":") + by_fd(layer);
  const unique_fd context{fsopen("overlay")};
  const bool ready =
      context && fsconfig(context.get(), FSCONFIG_SET_STRING, "lowerdir", lower.c_str()) &&
      fsconfig(context.get(), FSCONFIG_SET_STRING, "upperdir", by_fd(plan.upper).c_str()) &&
      fsconfig(context.get(), FSCONFIG_SET_STRING, "workdir", by_fd(plan.work).c_str()) &&
      (!plan.is_volatile || fsconfig(context.get(), FSCONFIG_SET_FLAG, "volatile", nullptr)) &&
      fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr);
  if (!ready) return fail(io_error("make an overlay on", plan.upper, errno));
  unique_fd out{static_cast<int>(::syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC,
                                           MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV))};
  if (!out) return fail(io_error("mount an overlay on", plan.upper, errno));
  return out;
}

result<unique_fd> make_readonly_clone(const std::string& path, int userns, bool& was_shifted) {
  unique_fd out{static_cast<int>(::syscall(SYS_open_tree, AT_FDCWD, path.c_str(),
                                           OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE))};
  if (!out) return fail(io_error("clone the mount", path, errno));
  mount_attr wanted{};
  wanted.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  wanted.propagation = ms_private;
  const auto set = [&] {
    return ::syscall(SYS_mount_setattr, out.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &wanted,
                     sizeof wanted) == 0;
  };
  if (userns >= 0) {
    wanted.attr_set |= MOUNT_ATTR_IDMAP;
    wanted.userns_fd = static_cast<std::uint64_t>(userns);
    was_shifted = set();
    if (was_shifted) return out;
    // The file system cannot shift ids: its files appear as nobody's, but can be read all the same.
    wanted.attr_set &= ~static_cast<std::uint64_t>(MOUNT_ATTR_IDMAP);
    wanted.userns_fd = 0;
  }
  if (!set()) return fail(io_error("make read-only", path, errno));
  return out;
}

void enter_root(int overlay_fd, int usr_fd, const overlay_plan& plan, std::uint64_t tmp_bytes) {
  const std::string root = "/tmp";  // Exists on every host; covered in this namespace only.
  const auto size = "size=" + std::to_string(tmp_bytes) + ",nr_inodes=100000";
  mount_or_fail(nullptr, "/", nullptr, ms_rec | ms_private);
  if (overlay_fd >= 0) {
    if (!move_mount(overlay_fd, root.c_str())) fail_step("attach the root");
  } else {
    mount_or_fail("overlay", root, "overlay", ms_nosuid | ms_nodev, overlay_options(plan));
  }
  if (usr_fd >= 0) {
    if (!move_mount(usr_fd, (root + "/usr").c_str())) fail_step("attach /usr");
  } else {
    mount_or_fail("/usr", root + "/usr", nullptr, ms_bind | ms_rec);
    mount_or_fail(nullptr, root + "/usr", nullptr,
                  ms_bind | ms_remount | ms_rdonly | ms_nosuid | ms_nodev);
  }
  mount_or_fail("proc", root + "/proc", "proc", ms_nosuid | ms_nodev | ms_noexec);
  hide_kernel_files(root);
  make_devices(root, size);
  mount_or_fail("tmpfs", root + "/tmp", "tmpfs", ms_nosuid | ms_nodev, size + ",mode=1777");
  mount_or_fail("tmpfs", root + "/run", "tmpfs", ms_nosuid | ms_nodev, size + ",mode=755");
  if (::chdir(root.c_str()) != 0 || ::syscall(SYS_pivot_root, ".", ".") != 0)
    fail_step("pivot_root");
  if (::umount2(".", mnt_detach) != 0 || ::chdir("/") != 0) fail_step("leave the host's root");
}

}  // namespace ntrace::zone
