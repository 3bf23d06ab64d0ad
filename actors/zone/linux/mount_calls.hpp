#pragma once
// System calls of the new mount API, which have no wrappers in glibc 2.36. fsopen(2), fsconfig(2).
#include <linux/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "config/file.hpp"

namespace ntrace::zone::detail {

inline unique_fd fsopen(const char* type) {
  return unique_fd{static_cast<int>(::syscall(SYS_fsopen, type, FSOPEN_CLOEXEC))};
}
inline bool fsconfig(const unique_fd& context, unsigned command, const char* key,
                     const char* value) {
  return ::syscall(SYS_fsconfig, context.get(), command, key, value, 0) == 0;
}
/// Detached: no mount table shows it, and it dies with its descriptor. `attributes`: MOUNT_ATTR_….
inline unique_fd fsmount(const unique_fd& context, unsigned attributes) {
  return unique_fd{
      static_cast<int>(::syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, attributes))};
}
inline unique_fd open_tree(const char* path) {
  return unique_fd{static_cast<int>(::syscall(SYS_open_tree, AT_FDCWD, path,
                                              OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE))};
}
inline bool set_mount(const unique_fd& mount, mount_attr wanted) {
  return ::syscall(SYS_mount_setattr, mount.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &wanted,
                   sizeof wanted) == 0;
}

}  // namespace ntrace::zone::detail
