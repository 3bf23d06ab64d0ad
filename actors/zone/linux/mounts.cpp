#include "actors/zone/linux/mounts.hpp"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "actors/zone/linux/zone_mounts.hpp"

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

unsigned long flags_of(std::string_view names) {
  constexpr std::pair<std::string_view, unsigned long> all[] = {
      {"ro", ms_rdonly}, {"nosuid", ms_nosuid}, {"nodev", ms_nodev}, {"noexec", ms_noexec}};
  unsigned long out = 0;
  for (const auto& [name, bit] : all)
    if ((',' + std::string{names} + ',').find(',' + std::string{name} + ',') != std::string::npos)
      out |= bit;
  return out;
}

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

/// A bind of what is at `path` onto itself, for its own flags.
void restrict(const std::string& path, std::string_view flags) {
  mount_or_fail(nullptr, path, nullptr, ms_bind | ms_remount | flags_of(flags));
}

void bind_devices(const std::string& dev) {
  for (const auto name : zone_devices) {
    const auto to = dev + "/" + std::string{name};
    const unique_fd file{::open(to.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666)};
    if (!file) fail_step("create " + to);
    mount_or_fail(("/dev/" + std::string{name}).c_str(), to, nullptr, ms_bind);
  }
  constexpr std::pair<const char*, const char*> links[] = {{"/proc/self/fd", "/fd"},
                                                           {"/proc/self/fd/0", "/stdin"},
                                                           {"/proc/self/fd/1", "/stdout"},
                                                           {"/proc/self/fd/2", "/stderr"},
                                                           {"pts/ptmx", "/ptmx"}};
  for (const auto& [target, name] : links)
    if (::symlink(target, (dev + name).c_str()) != 0) fail_step("link " + dev + name);
}

void mount_table(const std::string& root, std::uint64_t tmp_bytes) {
  for (const auto& one : zone_mounts) {
    const auto to = root + std::string{one.at};
    std::string data{one.data};
    if (one.is_sized) data += "," + size_options(tmp_bytes);
    if (one.at.starts_with("/dev/") && ::mkdir(to.c_str(), 0755) != 0) fail_step("mkdir " + to);
    mount_or_fail(one.type.data(), to, one.type.data(), flags_of(one.flags), data);
    if (one.at == "/dev") bind_devices(to);
  }
}

void hide_kernel_files(const std::string& root) {
  for (const auto name : masked_files)
    if (const auto path = root + std::string{name}; exists(path))
      mount_or_fail("/dev/null", path, nullptr, ms_bind);
  for (const auto name : masked_folders)
    if (const auto path = root + std::string{name}; exists(path))
      mount_or_fail("tmpfs", path, "tmpfs", ms_rdonly);
  for (const auto name : readonly_folders) {
    const auto path = root + std::string{name};
    if (!exists(path)) continue;
    mount_or_fail(path.c_str(), path, nullptr, ms_bind);
    restrict(path, "ro,nosuid,nodev,noexec");
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

std::string size_options(std::uint64_t tmp_bytes) {
  return "size=" + std::to_string(tmp_bytes) + ",nr_inodes=" + std::to_string(tmp_files_max);
}

bool attach(int fd, const std::string& to) {
  return ::syscall(SYS_move_mount, fd, "", AT_FDCWD, to.c_str(), MOVE_MOUNT_F_EMPTY_PATH) == 0;
}

result<unique_fd> make_detached_overlay(const overlay_plan& plan) {
  // Named by descriptor from within /proc/self/fd: no character of a real name can confuse the
  // list, and with whole paths sixteen layers are beyond the 256 bytes that fsconfig(2) takes.
  std::vector<unique_fd> held;
  const auto by_fd = [&held](const std::string& path) {
    held.emplace_back(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    return std::to_string(held.back().get());
  };
  std::string lower;
  for (const auto& layer : plan.layers) lower += (lower.empty() ? "" : ":") + by_fd(layer);
  const auto upper = by_fd(plan.upper), work = by_fd(plan.work);
  const unique_fd here{::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)};
  if (!here || ::chdir("/proc/self/fd") != 0)
    return fail(io_error("enter", "/proc/self/fd", errno));
  const unique_fd context{fsopen("overlay")};
  const bool ready =
      context && fsconfig(context.get(), FSCONFIG_SET_STRING, "lowerdir", lower.c_str()) &&
      fsconfig(context.get(), FSCONFIG_SET_STRING, "upperdir", upper.c_str()) &&
      fsconfig(context.get(), FSCONFIG_SET_STRING, "workdir", work.c_str()) &&
      (!plan.is_volatile || fsconfig(context.get(), FSCONFIG_SET_FLAG, "volatile", nullptr)) &&
      fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr);
  const int why = errno;
  if (::fchdir(here.get()) != 0) return fail(io_error("return from", "/proc/self/fd", errno));
  if (!ready) {
    auto why_not = io_error("make an overlay on", plan.upper, why);
    if (why == EINVAL)  // overlayfs(5): what cannot be an upper layer
      why_not.message +=
          "; the data folder must lie on ext4, xfs, btrfs or tmpfs, and not on another overlay, as "
          "the root of a container is";
    return fail(std::move(why_not));
  }
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
  mount_or_fail(nullptr, "/", nullptr, ms_rec | ms_private);
  if (overlay_fd >= 0) {
    if (!attach(overlay_fd, root)) fail_step("attach the root");
  } else {
    mount_or_fail("overlay", root, "overlay", flags_of(root_flags), overlay_options(plan));
  }
  if (usr_fd >= 0) {
    if (!attach(usr_fd, root + "/usr")) fail_step("attach /usr");
  } else {
    mount_or_fail("/usr", root + "/usr", nullptr, ms_bind | ms_rec);
    restrict(root + "/usr", usr_flags);
  }
  mount_table(root, tmp_bytes);
  hide_kernel_files(root);
  if (::chdir(root.c_str()) != 0 || ::syscall(SYS_pivot_root, ".", ".") != 0)
    fail_step("pivot_root");
  if (::umount2(".", mnt_detach) != 0 || ::chdir("/") != 0) fail_step("leave the host's root");
}

}  // namespace ntrace::zone
