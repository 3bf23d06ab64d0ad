#include "actors/zone/linux/syscall_filter.hpp"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
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

constexpr int domains_end = 64;  // above the largest AF_… of today
constexpr std::uint64_t low_half = 0xffffffffu;
constexpr std::uint64_t flow_labels =
    32;  // IPV6_FLOWLABEL_MGR: <linux/in6.h>, which glibc's denies
constexpr std::uint32_t terminal_line_command = 0x541c;  // TIOCLINUX: ioctl_console(2)

bool is_allowed_domain(int domain) {
  return domain == AF_UNIX || domain == AF_INET || domain == AF_INET6 || domain == AF_NETLINK;
}

/// What a rule asks of one argument. The library's own macros are C's compound literals.
scmp_arg_cmp argument_of(const denied_argument& a) {
  switch (a.is) {
    case denied_argument::test::equal:
      return {a.index, SCMP_CMP_EQ, a.value, 0};
    case denied_argument::test::not_equal:
      return {a.index, SCMP_CMP_NE, a.value, 0};
    case denied_argument::test::at_least:
      return {a.index, SCMP_CMP_GE, a.value, 0};
    case denied_argument::test::masked_equal:
      break;
  }
  return {a.index, SCMP_CMP_MASKED_EQ, a.mask, a.value};
}

}  // namespace

std::vector<denied_use> denied_uses() {
  using test = denied_argument::test;
  std::vector<denied_use> out;
  // One rule a flag: a rule can ask for equal bits, not for any of them.
  for (const std::uint64_t flag :
       {std::uint64_t{CLONE_NEWNS}, std::uint64_t{CLONE_NEWUSER}, std::uint64_t{CLONE_NEWPID},
        std::uint64_t{CLONE_NEWNET}, std::uint64_t{CLONE_NEWIPC}, std::uint64_t{CLONE_NEWUTS},
        std::uint64_t{CLONE_NEWCGROUP}, std::uint64_t{CLONE_NEWTIME}})
    out.push_back({"clone", EPERM, {{0, test::masked_equal, flag, flag}}});
  for (int domain = 0; domain < domains_end; ++domain)
    if (!is_allowed_domain(domain))
      out.push_back(
          {"socket", EAFNOSUPPORT, {{0, test::equal, static_cast<std::uint64_t>(domain)}}});
  out.push_back(
      {"socket", EAFNOSUPPORT, {{0, test::at_least, static_cast<std::uint64_t>(domains_end)}}});
  out.push_back({"socket",
                 EPROTONOSUPPORT,
                 {{0, test::equal, std::uint64_t{AF_NETLINK}}, {2, test::not_equal, 0}}});
  // The kernel looks at the low half only.
  for (const std::uint64_t request : {std::uint64_t{TIOCSTI}, std::uint64_t{terminal_line_command}})
    out.push_back({"ioctl", EPERM, {{1, test::masked_equal, request, low_half}}});
  for (const std::uint64_t command :
       {std::uint64_t{F_SETLEASE}, std::uint64_t{F_NOTIFY}, std::uint64_t{F_SETPIPE_SZ}})
    out.push_back({"fcntl", EPERM, {{1, test::masked_equal, command, low_half}}});
  out.push_back({"setsockopt",
                 EPERM,
                 {{1, test::masked_equal, std::uint64_t{IPPROTO_IPV6}, low_half},
                  {2, test::masked_equal, flow_labels, low_half}}});
  return out;
}

result<std::string> make_syscall_filter() {
  const std::unique_ptr<void, decltype(&::seccomp_release)> made{::seccomp_init(SCMP_ACT_ALLOW),
                                                                 &::seccomp_release};
  auto* filter = made.get();
  bool is_whole =
      filter && ::seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) == 0;
  auto all = denied_uses();
  for (const auto& one : denied_calls) all.push_back({one.name, one.answer, {}});
  for (const auto& one : all) {
    const int number = ::seccomp_syscall_resolve_name(std::string{one.name}.c_str());
    if (number == __NR_SCMP_ERROR)
      return fail(ec::zone_unsupported,
                  "libseccomp does not know the call " + std::string{one.name});
    std::vector<scmp_arg_cmp> arguments;
    for (const auto& a : one.arguments) arguments.push_back(argument_of(a));
    is_whole =
        is_whole && ::seccomp_rule_add_array(
                        filter, SCMP_ACT_ERRNO(static_cast<std::uint32_t>(one.answer)), number,
                        static_cast<unsigned>(arguments.size()), arguments.data()) == 0;
  }
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
