#include "actors/zone/linux/mounts.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "actors/zone/linux/host_files.hpp"
#include "actors/zone/linux/mount_calls.hpp"
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

/// What the helper would have made. These nodes are the host's.
void build_devices(const std::string& dev) {
  for (const auto& one : zone_devices) {
    const auto to = dev + "/" + one.name;
    const unique_fd file{::open(to.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666)};
    if (!file) fail_step("create " + to);
    mount_or_fail((std::string{"/dev/"} + one.name).c_str(), to, nullptr, ms_bind);
  }
  for (const auto& [target, name] : device_links)
    if (::symlink(target, (dev + "/" + name).c_str()) != 0) fail_step("link " + dev + "/" + name);
  for (const char* folder : {"/pts", "/shm"})
    if (::mkdir((dev + folder).c_str(), 0755) != 0) fail_step("mkdir " + dev + folder);
}

void mount_table(const std::string& root, int devices, std::uint64_t tmp_bytes) {
  for (const auto& one : zone_mounts) {
    const auto to = root + std::string{one.at};
    const bool is_dev = one.at == "/dev";
    if (is_dev && devices >= 0) {
      if (!attach(devices, to)) fail_step("attach /dev");
      continue;
    }
    std::string data{one.data};
    if (one.is_sized) data += "," + size_options(tmp_bytes);
    const auto flags = flags_of(one.flags);
    mount_or_fail(one.type.data(), to, one.type.data(), flags & ~ms_rdonly, data);
    if (is_dev) build_devices(to);
    if ((flags & ms_rdonly) != 0) restrict(to, one.flags);
  }
}

void show_limits(const std::string& root, const std::vector<limits_view>& limits) {
  for (const auto& one : limits) {
    const auto to = root + one.inside;
    if (auto made = make_folders(to, 0755); !made) throw made.error().message;
    mount_or_fail(one.host.c_str(), to, nullptr, ms_bind);
    restrict(to, limits_flags);
  }
}

void hide_kernel_files(const std::string& root) {
  for (const auto name : readonly_folders) {
    const auto path = root + std::string{name};
    if (!exists(path)) continue;
    mount_or_fail(path.c_str(), path, nullptr, ms_bind);
    restrict(path, "ro,nosuid,nodev,noexec");
  }
  const auto null = root + "/dev/null";
  for (const auto name : masked_files)
    if (const auto path = root + std::string{name}; exists(path))
      mount_or_fail(null.c_str(), path, nullptr, ms_bind);
  std::string empty;  // One serves them all: a mount costs less than a file system.
  for (const auto name : masked_folders) {
    const auto path = root + std::string{name};
    if (!exists(path)) continue;
    if (empty.empty())
      mount_or_fail("tmpfs", empty = path, "tmpfs", ms_rdonly);
    else
      mount_or_fail(empty.c_str(), path, nullptr, ms_bind);
  }
}

/// As make_usr() in the helper, by one who has rights in the zone only. Where the host has mounts
/// below /usr the kernel lets it bind them all, or nothing: mount_namespaces(7).
void mount_usr(const std::string& to, const overlay_plan& plan) {
  const auto options = "lowerdir=" + usr_layers(plan.layers.back()) + ",userxattr";
  if (::mount("overlay", to.c_str(), "overlay", flags_of(usr_flags), options.c_str()) == 0) return;
  mount_or_fail("/usr", to, nullptr, ms_bind | ms_rec);
  restrict(to, usr_flags);
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
  const bool is_writable = !plan.upper.empty();
  std::string upper, work;
  if (is_writable) {
    upper = by_fd(plan.upper);
    work = by_fd(plan.work);
  }
  const unique_fd here{::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)};
  if (!here || ::chdir("/proc/self/fd") != 0)
    return fail(io_error("enter", "/proc/self/fd", errno));
  const auto context = detail::fsopen("overlay");
  const auto set = [&](const char* key, const std::string& value) {
    return detail::fsconfig(context, FSCONFIG_SET_STRING, key, value.c_str());
  };
  const bool ready = context && set("lowerdir", lower) &&
                     (!is_writable || (set("upperdir", upper) && set("workdir", work))) &&
                     (!is_writable || !plan.is_volatile ||
                      detail::fsconfig(context, FSCONFIG_SET_FLAG, "volatile", nullptr)) &&
                     detail::fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr);
  const int why = errno;
  if (::fchdir(here.get()) != 0) return fail(io_error("return from", "/proc/self/fd", errno));
  const auto& place = is_writable ? plan.upper : plan.layers.front();
  if (!ready) {
    auto why_not = io_error("make an overlay on", place, why);
    if (why == EINVAL && is_writable)  // overlayfs(5): what cannot be an upper layer
      why_not.message +=
          "; the data folder must lie on ext4, xfs, btrfs or tmpfs, and not on another overlay, as "
          "the root of a container is";
    return fail(std::move(why_not));
  }
  auto out = detail::fsmount(
      context, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (is_writable ? 0u : MOUNT_ATTR_RDONLY));
  if (!out) return fail(io_error("mount an overlay on", place, errno));
  return out;
}

void enter_root(const made_mounts& made, const overlay_plan& plan, std::uint64_t tmp_bytes,
                const std::vector<limits_view>& limits) {
  const std::string root = "/tmp";  // Exists on every host; covered in this namespace only.
  mount_or_fail(nullptr, "/", nullptr, ms_rec | ms_private);
  if (made.root >= 0) {
    if (!attach(made.root, root)) fail_step("attach the root");
  } else {
    mount_or_fail("overlay", root, "overlay", flags_of(root_flags), overlay_options(plan));
  }
  if (made.usr >= 0) {
    if (!attach(made.usr, root + "/usr")) fail_step("attach /usr");
  } else {
    mount_usr(root + "/usr", plan);
  }
  mount_table(root, made.devices, tmp_bytes);
  show_limits(root, limits);
  hide_kernel_files(root);
  if (::chdir(root.c_str()) != 0 || ::syscall(SYS_pivot_root, ".", ".") != 0)
    fail_step("pivot_root");
  if (::umount2(".", mnt_detach) != 0 || ::chdir("/") != 0) fail_step("leave the host's root");
}

}  // namespace ntrace::zone
