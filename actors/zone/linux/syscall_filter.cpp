#include "actors/zone/linux/syscall_filter.hpp"

#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <memory>

#include "actors/zone/linux/syscall_policy.hpp"
#include "config/file.hpp"

namespace ntrace::zone {
namespace {

constexpr int domains_end = 64;                          // above the largest AF_… of today
constexpr std::uint32_t terminal_line_command = 0x541c;  // TIOCLINUX: ioctl_console(2)

bool is_allowed_domain(int domain) {
  return domain == AF_UNIX || domain == AF_INET || domain == AF_INET6 || domain == AF_NETLINK;
}

/// What a rule asks of one argument. The library's own macros are C's compound literals.
scmp_arg_cmp argument(unsigned index, scmp_compare is, std::uint64_t value,
                      std::uint64_t masked_value = 0) {
  return {index, is, value, masked_value};
}

}  // namespace

result<std::string> make_syscall_filter() {
  const std::unique_ptr<void, decltype(&::seccomp_release)> made{::seccomp_init(SCMP_ACT_ALLOW),
                                                                 &::seccomp_release};
  auto* filter = made.get();
  bool is_whole =
      filter && ::seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) == 0;
  const auto deny = [&](int answer, int call, auto... when) {
    is_whole =
        is_whole && ::seccomp_rule_add(filter, SCMP_ACT_ERRNO(static_cast<std::uint32_t>(answer)),
                                       call, sizeof...(when), when...) == 0;
  };
  for (const auto& one : denied_calls) {
    const int number = ::seccomp_syscall_resolve_name(std::string{one.name}.c_str());
    if (number == __NR_SCMP_ERROR)
      return fail(ec::zone_unsupported,
                  "libseccomp does not know the call " + std::string{one.name});
    deny(one.answer, number);
  }
  // One rule a flag: a rule can ask for equal bits, not for any of them.
  for (const std::uint64_t flag :
       {std::uint64_t{CLONE_NEWNS}, std::uint64_t{CLONE_NEWUSER}, std::uint64_t{CLONE_NEWPID},
        std::uint64_t{CLONE_NEWNET}, std::uint64_t{CLONE_NEWIPC}, std::uint64_t{CLONE_NEWUTS},
        std::uint64_t{CLONE_NEWCGROUP}, std::uint64_t{CLONE_NEWTIME}})
    deny(EPERM, SCMP_SYS(clone), argument(0, SCMP_CMP_MASKED_EQ, flag, flag));
  for (int domain = 0; domain < domains_end; ++domain)
    if (!is_allowed_domain(domain))
      deny(EAFNOSUPPORT, SCMP_SYS(socket),
           argument(0, SCMP_CMP_EQ, static_cast<std::uint64_t>(domain)));
  deny(EAFNOSUPPORT, SCMP_SYS(socket),
       argument(0, SCMP_CMP_GE, static_cast<std::uint64_t>(domains_end)));
  deny(EPROTONOSUPPORT, SCMP_SYS(socket), argument(0, SCMP_CMP_EQ, std::uint64_t{AF_NETLINK}),
       argument(2, SCMP_CMP_NE, std::uint64_t{0}));
  // The kernel looks at the low half only.
  for (const std::uint64_t request : {std::uint64_t{TIOCSTI}, std::uint64_t{terminal_line_command}})
    deny(EPERM, SCMP_SYS(ioctl), argument(1, SCMP_CMP_MASKED_EQ, 0xffffffffu, request));
  const unique_fd file{::memfd_create("ntrace-syscall-filter", MFD_CLOEXEC)};
  if (!is_whole || !file || ::seccomp_export_bpf(filter, file.get()) != 0)
    return fail(ec::zone_unsupported, "libseccomp makes no filter of system calls");
  const auto size = ::lseek(file.get(), 0, SEEK_END);
  std::string out(static_cast<std::size_t>(std::max<off_t>(size, 0)), '\0');
  if (::pread(file.get(), out.data(), out.size(), 0) != size || out.empty())
    return fail(io_error("read", "the filter of system calls", errno));
  return out;
}

bool install_syscall_filter(const std::string& filter) {
  // The kernel copies it; const only by our word.
  sock_fprog program{static_cast<unsigned short>(filter.size() / sizeof(sock_filter)),
                     reinterpret_cast<sock_filter*>(const_cast<char*>(filter.data()))};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

}  // namespace ntrace::zone
