#include "actors/zone/linux/machine_probe.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>

#include "actors/zone/linux/cgroup.hpp"
#include "config/file.hpp"
#include "config/remove_tree.hpp"

namespace ntrace::zone {
namespace {

/// `what` in a child, where it may do as it likes; 0 or its errno, which 0 to 255 holds.
int errno_in_child(const std::function<int()>& what) {
  const int pid = ::fork();
  if (pid < 0) return errno;
  if (pid == 0) ::_exit(what() == 0 ? 0 : errno);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
}

int write_own(const char* path, const std::string& text) {
  const unique_fd fd{::open(path, O_WRONLY | O_CLOEXEC)};
  return fd && write_all(fd.get(), text) ? 0 : -1;
}

/// With the right to mount.
int enter_mount_namespace() {
  if (::geteuid() == 0) return ::unshare(CLONE_NEWNS);
  const auto uid = std::to_string(::geteuid()), gid = std::to_string(::getegid());
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return -1;
  if (write_own("/proc/self/setgroups", "deny") != 0) return -1;
  if (write_own("/proc/self/uid_map", "0 " + uid + " 1") != 0) return -1;
  return write_own("/proc/self/gid_map", "0 " + gid + " 1");
}

}  // namespace

result<void> try_namespaces() {
  const int code = errno_in_child([] {
    return ::unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
                     CLONE_NEWUTS | CLONE_NEWCGROUP);
  });
  if (code == 0) return {};
  return fail(ec::zone_unsupported, std::string{"no new namespaces: "} + std::strerror(code));
}

result<void> try_overlay(const std::string& folder) {
  const auto top = folder + "/overlay";
  std::error_code problem;
  std::string options;
  for (const auto* layer : {"lower", "upper", "work"}) {
    std::filesystem::create_directories(top + "/" + layer, problem);
    if (problem) return fail(io_error("mkdir", top, problem.value()));
    options += (options.empty() ? "" : ",") + (layer + std::string{"dir="}) + top + "/" + layer;
  }
  const int code = errno_in_child([&] {
    if (enter_mount_namespace() != 0) return -1;
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return -1;
    return ::mount("overlay", (top + "/lower").c_str(), "overlay", 0, options.c_str());
  });
  // As an ordinary user, too, from whom the kernel locks the folder that it makes below `work`.
  auto deleted = remove_tree(top);
  if (code == 0) return deleted;
  return fail(ec::zone_unsupported,
              "no overlay below " + folder + ": " + std::string{std::strerror(code)});
}

result<std::string> try_cgroups() {
  const auto layout = parse_cgroup_layout(read_file("/proc/self/mountinfo").value_or(""));
  const auto parents = cgroup_parents::hold(layout, false);
  if (!parents) return fail(parents.error());
  constexpr cgroup_limits some{64u << 20, 16, 100};
  auto group = zone_cgroup::make(layout, "doctor-" + std::to_string(::getpid()), some);
  if (!group) return fail(group.error());
  group->remove();
  std::string out = "membership by " + (layout.v2.empty() ? "v1" : "v2 at " + layout.v2);
  for (const auto* controller : {"memory", "pids", "cpu"})
    out +=
        std::string{", "} + controller + (layout.v1.count(controller) != 0 ? " by v1" : " by v2");
  return out;
}

}  // namespace ntrace::zone
