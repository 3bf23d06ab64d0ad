#include "actors/zone/linux/syscall_filter.hpp"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/memfd.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
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
constexpr std::uint64_t flow_labels = 32;  // IPV6_FLOWLABEL_MGR: <linux/in6.h>, not in glibc
// SO_ATTACH_FILTER, SO_ATTACH_BPF and their two of SO_REUSEPORT, SO_ZEROCOPY: <asm/socket.h>.
constexpr std::uint64_t socket_options[] = {26, 50, 51, 52, 60};
// IPV6_JOIN_GROUP, IPV6_JOIN_ANYCAST, MCAST_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP: <linux/in6.h>.
constexpr std::uint64_t group_options[] = {20, 27, 42, 46};
constexpr std::uint64_t terminal_line_command = 0x541c;      // TIOCLINUX: ioctl_console(2)
constexpr std::uint64_t core_scheduling = 62;                // PR_SCHED_CORE: prctl(2)
constexpr std::uint64_t datagram_congestion = 33;            // IPPROTO_DCCP
constexpr std::uint64_t protocols_end = IPPROTO_ICMPV6 + 1;  // Above it, none that a job needs.

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
  // The kernel looks at the low half only.
  const auto low = [](unsigned index, std::uint64_t value) {
    return denied_argument{index, test::masked_equal, value, low_half};
  };
  const auto has_bit = [](unsigned index, std::uint64_t bit) {
    return denied_argument{index, test::masked_equal, bit, bit};
  };
  // One rule a flag: a rule can ask for equal bits, not for any of them.
  for (const std::uint64_t flag :
       {std::uint64_t{CLONE_NEWNS}, std::uint64_t{CLONE_NEWUSER}, std::uint64_t{CLONE_NEWPID},
        std::uint64_t{CLONE_NEWNET}, std::uint64_t{CLONE_NEWIPC}, std::uint64_t{CLONE_NEWUTS},
        std::uint64_t{CLONE_NEWCGROUP}, std::uint64_t{CLONE_NEWTIME}})
    out.push_back({"clone", EPERM, {has_bit(0, flag)}});
  for (int domain = 0; domain < domains_end; ++domain)
    if (!is_allowed_domain(domain))
      out.push_back(
          {"socket", EAFNOSUPPORT, {{0, test::equal, static_cast<std::uint64_t>(domain)}}});
  out.push_back(
      {"socket", EAFNOSUPPORT, {{0, test::at_least, static_cast<std::uint64_t>(domains_end)}}});
  out.push_back({"socket",
                 EPROTONOSUPPORT,
                 {{0, test::equal, std::uint64_t{AF_NETLINK}}, {2, test::not_equal, 0}}});
  // Others are modules, which the kernel loads on request.
  for (const std::uint64_t domain : {std::uint64_t{AF_INET}, std::uint64_t{AF_INET6}}) {
    out.push_back({"socket",
                   EPROTONOSUPPORT,
                   {{0, test::equal, domain}, {2, test::at_least, protocols_end}}});
    out.push_back(
        {"socket", EPROTONOSUPPORT, {{0, test::equal, domain}, low(2, datagram_congestion)}});
  }
  for (const std::uint64_t request :
       {std::uint64_t{TIOCSTI}, terminal_line_command, std::uint64_t{TIOCSETD}})
    out.push_back({"ioctl", EPERM, {low(1, request)}});
  for (const std::uint64_t command :
       {std::uint64_t{F_SETLEASE}, std::uint64_t{F_NOTIFY}, std::uint64_t{F_SETPIPE_SZ}})
    out.push_back({"fcntl", EPERM, {low(1, command)}});
  out.push_back({"setsockopt", EPERM, {low(1, IPPROTO_IPV6), low(2, flow_labels)}});
  out.push_back({"setsockopt", EPERM, {low(1, IPPROTO_TCP), low(2, TCP_ULP)}});
  for (const auto option : socket_options)
    out.push_back({"setsockopt", EPERM, {low(1, SOL_SOCKET), low(2, option)}});
  // Its queue is of the machine's default size: the number of sockets is bounded by that.
  out.push_back({"setsockopt", 0, {low(1, SOL_SOCKET), low(2, SO_RCVBUF)}});
  for (const auto option : group_options)  // As where there is no network.
    out.push_back({"setsockopt", ENODEV, {low(1, IPPROTO_IPV6), low(2, option)}});
  out.push_back({"prctl", EINVAL, {low(0, core_scheduling)}});
  out.push_back({"mmap", EPERM, {has_bit(3, MAP_HUGETLB)}});
  out.push_back({"memfd_create", EPERM, {has_bit(1, MFD_HUGETLB)}});
  out.push_back({"shmget", EPERM, {has_bit(2, SHM_HUGETLB)}});
  out.push_back({"fadvise64", 0, {low(3, POSIX_FADV_DONTNEED)}});
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
