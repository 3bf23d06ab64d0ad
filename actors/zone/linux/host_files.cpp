#include "actors/zone/linux/host_files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <sstream>

#include "actors/zone/linux/mount_calls.hpp"
#include "actors/zone/linux/mounts.hpp"
#include "actors/zone/linux/zone_mounts.hpp"

extern "C" int umount2(const char*, int) noexcept;  // See mounts.cpp.

namespace ntrace::zone {
namespace {

constexpr int mnt_detach = 2;
constexpr std::uint64_t attributes_of_usr =
    MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;

/// proc_pid_mountinfo(5): blanks and the like stand there as three octal digits.
std::string unescaped(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto is_digit = [&](std::size_t at) {
      return at < text.size() && text[at] >= '0' && text[at] <= '7';
    };
    if (text[i] != '\\' || !is_digit(i + 1) || !is_digit(i + 2) || !is_digit(i + 3)) {
      out += text[i];
      continue;
    }
    out +=
        static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + text[i + 3] - '0');
    i += 3;
  }
  return out;
}

/// Of the file system at `path` alone.
result<unique_fd> make_view(const std::string& path, const std::string& lowest) {
  if (auto made = make_detached_overlay({{path, lowest + "/usr"}, "", "", false})) return made;
  auto out = detail::open_tree(path.c_str());
  mount_attr wanted{};
  wanted.attr_set = attributes_of_usr;
  wanted.propagation = 1 << 18;  // MS_PRIVATE
  if (!out || !detail::set_mount(out, wanted))
    return fail(io_error("make a read-only view of", path, errno));
  return out;
}

struct view {
  std::string at;
  unique_fd mount;
};

/// One tree of the views: put together over our own /usr, which is back when this returns.
result<unique_fd> join(const std::vector<view>& views) {
  std::size_t attached = 0;
  while (attached < views.size() && attach(views[attached].mount.get(), views[attached].at))
    ++attached;
  int why = errno;
  unique_fd out;
  if (attached == views.size()) {
    out = detail::open_tree("/usr");
    why = errno;
  }
  if (attached > 0 && ::umount2("/usr", mnt_detach) != 0) {
    why = errno;
    out.reset();
  }
  if (!out) return fail(io_error("put together a view of", "/usr", why));
  return out;
}

}  // namespace

std::string usr_layers(const std::string& lowest) { return "/usr:" + lowest + "/usr"; }

std::vector<std::string> mounts_below_usr(std::string_view mountinfo) {
  std::vector<std::string> out;
  std::istringstream lines{std::string{mountinfo}};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words{line};
    std::string skipped, at;
    words >> skipped >> skipped >> skipped >> skipped >> at;
    if (at.starts_with("/usr/")) out.push_back(unescaped(at));
  }
  std::sort(out.begin(), out.end());
  // One over another at the same place hides it.
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

result<unique_fd> make_usr(const std::string& lowest) {
  const auto mountinfo = read_file("/proc/self/mountinfo");
  if (!mountinfo) return fail(mountinfo.error());
  std::vector<view> views;
  auto places = mounts_below_usr(*mountinfo);
  places.insert(places.begin(), "/usr");
  for (auto& at : places) {
    auto made = make_view(at, lowest);
    if (!made) return fail(made.error());
    views.push_back({std::move(at), std::move(*made)});
  }
  if (views.size() == 1) return std::move(views[0].mount);
  return join(views);
}

result<unique_fd> make_devices() {
  const auto context = detail::fsopen("tmpfs");
  if (!context || !detail::fsconfig(context, FSCONFIG_SET_STRING, "size", "64k") ||
      !detail::fsconfig(context, FSCONFIG_SET_STRING, "mode", "0755") ||
      !detail::fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr))
    return fail(io_error("make a file system for", "/dev", errno));
  auto out = detail::fsmount(context, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
  if (!out) return fail(io_error("mount a file system for", "/dev", errno));
  for (const auto& one : zone_devices) {
    const auto number = makedev(one.major, one.minor);
    if (::mknodat(out.get(), one.name, S_IFCHR | 0666, number) != 0) {
      if (errno == EPERM || errno == EACCES) return unique_fd{};
      return fail(io_error("make the device", one.name, errno));
    }
    ::fchmodat(out.get(), one.name, 0666, 0);  // Whatever our umask is.
  }
  for (const auto& [target, name] : device_links)
    if (::symlinkat(target, out.get(), name) != 0)
      return fail(io_error("make the link", name, errno));
  for (const char* folder : {"pts", "shm"})
    if (::mkdirat(out.get(), folder, 0755) != 0 || ::fchmodat(out.get(), folder, 0755, 0) != 0)
      return fail(io_error("mkdir", folder, errno));
  mount_attr wanted{};
  wanted.attr_set = MOUNT_ATTR_RDONLY;
  if (!detail::set_mount(out, wanted)) return fail(io_error("make read-only", "/dev", errno));
  return out;
}

}  // namespace ntrace::zone
