#pragma once
// The system calls that nothing in a zone may make: one table for the filter, its tests and
// docs/zones.md. A list of what is denied, on top of empty capabilities, because a list of what is
// allowed breaks with each release of Node. What is newer than this list is newer_calls.hpp.
#include <array>
#include <cerrno>
#include <cstdint>
#include <string_view>
#include <vector>

namespace ntrace::zone {

struct denied_call {
  std::string_view name;
  int answer;  ///< errno that the caller sees; 0: as if it were done.
};

/// ENOSYS where libraries have another way: glibc starts threads by clone when there is no clone3,
/// whose flags stand behind a pointer that a filter cannot follow.
inline constexpr std::array denied_calls{
    // Namespaces and mounts.
    denied_call{"unshare", EPERM}, denied_call{"setns", EPERM}, denied_call{"clone3", ENOSYS},
    denied_call{"mount", EPERM}, denied_call{"umount2", EPERM}, denied_call{"pivot_root", EPERM},
    denied_call{"chroot", EPERM}, denied_call{"fsopen", EPERM}, denied_call{"fsconfig", EPERM},
    denied_call{"fsmount", EPERM}, denied_call{"fspick", EPERM}, denied_call{"move_mount", EPERM},
    denied_call{"open_tree", EPERM}, denied_call{"mount_setattr", EPERM},
    denied_call{"open_by_handle_at", EPERM}, denied_call{"name_to_handle_at", EPERM},
    denied_call{"quotactl", EPERM}, denied_call{"quotactl_fd", EPERM},
    // Other processes.
    denied_call{"ptrace", EPERM}, denied_call{"process_vm_readv", EPERM},
    denied_call{"process_vm_writev", EPERM}, denied_call{"process_madvise", EPERM},
    denied_call{"pidfd_getfd", EPERM}, denied_call{"kcmp", EPERM},
    // Wide or often broken parts of the kernel.
    denied_call{"bpf", EPERM}, denied_call{"perf_event_open", EPERM},
    denied_call{"userfaultfd", EPERM}, denied_call{"io_uring_setup", ENOSYS},
    denied_call{"io_uring_enter", ENOSYS}, denied_call{"io_uring_register", ENOSYS},
    denied_call{"memfd_secret", ENOSYS},
    // Counted for the whole machine.
    denied_call{"io_setup", ENOSYS}, denied_call{"ustat", ENOSYS}, denied_call{"keyctl", EPERM},
    denied_call{"add_key", EPERM}, denied_call{"request_key", EPERM},
    denied_call{"fanotify_init", EPERM}, denied_call{"lookup_dcookie", EPERM},
    // Of use to nobody in a zone, and felt by all others: the disks of the machine, and its queue.
    denied_call{"sync", 0}, denied_call{"ioprio_set", 0}, denied_call{"modify_ldt", EPERM},
    denied_call{"vhangup", EPERM}, denied_call{"acct", EPERM},
    // The machine.
    denied_call{"init_module", EPERM}, denied_call{"finit_module", EPERM},
    denied_call{"delete_module", EPERM}, denied_call{"kexec_load", EPERM},
    denied_call{"kexec_file_load", EPERM}, denied_call{"reboot", EPERM},
    denied_call{"swapon", EPERM}, denied_call{"swapoff", EPERM}, denied_call{"syslog", EPERM},
    denied_call{"settimeofday", EPERM}, denied_call{"clock_settime", EPERM},
    denied_call{"clock_adjtime", EPERM}, denied_call{"adjtimex", EPERM},
    denied_call{"sethostname", EPERM}, denied_call{"setdomainname", EPERM},
    denied_call{"iopl", EPERM}, denied_call{"ioperm", EPERM}, denied_call{"mbind", EPERM},
    denied_call{"set_mempolicy", EPERM}, denied_call{"migrate_pages", EPERM},
    denied_call{"move_pages", EPERM}};

/// What one argument of a call has to be for a rule to strike.
struct denied_argument {
  enum class test { equal, not_equal, at_least, masked_equal };
  unsigned index;
  test is;
  std::uint64_t value;
  std::uint64_t mask = 0;  ///< Of masked_equal: the bits that are compared.
};
struct denied_use {
  std::string_view name;
  int answer;                              ///< As of denied_call.
  std::vector<denied_argument> arguments;  ///< All of them; each has another index.
};

/// Calls that are denied by their arguments; docs/zones.md, "Threats", has them all. Beside that,
/// calls of another architecture, x32 too, kill the caller.
std::vector<denied_use> denied_uses();

}  // namespace ntrace::zone
