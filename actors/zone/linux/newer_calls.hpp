#pragma once
// The system calls that no table of denied calls can have: those that are newer than the library
// which makes the filter, or than this program. They are denied unless they are listed here. Zone
// init adds this filter to the one that it was started under, whatever backend started it.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace ntrace::zone {

/// The same on every architecture from 424 on: syscall_policy.hpp knows all up to 448.
inline constexpr std::uint32_t newer_calls_begin = 449;
struct newer_call {
  const char* name;
  std::uint32_t number;
};
/// They reach nothing but the memory of the caller, or files as an older call does.
inline constexpr std::array newer_calls{newer_call{"futex_waitv", 449},
                                        newer_call{"fchmodat2", 452},
                                        newer_call{"map_shadow_stack", 453},
                                        newer_call{"futex_wake", 454},
                                        newer_call{"futex_wait", 455},
                                        newer_call{"futex_requeue", 456},
                                        newer_call{"mseal", 462},
                                        newer_call{"setxattrat", 463},
                                        newer_call{"getxattrat", 464},
                                        newer_call{"listxattrat", 465},
                                        newer_call{"removexattrat", 466}};

#ifdef __x86_64__
/// Given to no call yet. Before them are calls that the kernel's own probes make.
inline constexpr std::uint32_t free_calls_begin = 337, free_calls_end = 424;
#else
inline constexpr std::uint32_t free_calls_begin = newer_calls_begin, free_calls_end = 424;
#endif

/// Sets the filter for this process and all that it will start, as the last one: more of them
/// would be taken of the machine's `net.core.bpf_jit_limit`. It answers newer calls as a kernel
/// does that does not know them, and has whoever makes a socket of the network or of netlink wait
/// for the word of who holds the descriptor that this returns (seccomp_unotify(2)); -1 with errno
/// set. Calls of another architecture are the other filter's.
inline int install_last_filter() {
  constexpr auto number = static_cast<std::uint32_t>(offsetof(seccomp_data, nr));
  constexpr auto argument = [](unsigned i) {
    // The low half, on a little-endian machine.
    return static_cast<std::uint32_t>(offsetof(seccomp_data, args) + i * sizeof(std::uint64_t));
  };
  constexpr std::uint32_t allow = SECCOMP_RET_ALLOW, unknown = SECCOMP_RET_ERRNO | ENOSYS,
                          invalid = SECCOMP_RET_ERRNO | EINVAL, ask = SECCOMP_RET_USER_NOTIF;
  constexpr auto calls = static_cast<unsigned>(newer_calls.size());
  std::array<sock_filter, 25 + 2 * calls> program{};
  auto at = program.begin();
  const auto add = [&](unsigned code, std::uint32_t k, unsigned yes = 0, unsigned no = 0) {
    *at++ = {static_cast<std::uint16_t>(code), static_cast<std::uint8_t>(yes),
             static_cast<std::uint8_t>(no), k};
  };
  constexpr unsigned load = BPF_LD | BPF_W | BPF_ABS, answer = BPF_RET | BPF_K,
                     equal = BPF_JMP | BPF_JEQ | BPF_K, at_least = BPF_JMP | BPF_JGE | BPF_K;
  add(load, number);
  add(equal, SYS_socket, 0, 6);
  add(load, argument(0));
  add(equal, AF_INET, 3);
  add(equal, AF_INET6, 2);
  add(equal, AF_NETLINK, 1);
  add(answer, allow);
  add(answer, ask);
  add(equal, SYS_seccomp, 0, 4);
  add(load, argument(0));
  add(equal, SECCOMP_SET_MODE_FILTER, 0, 1);
  add(answer, invalid);
  add(answer, allow);
  add(equal, SYS_prctl, 0, 6);
  add(load, argument(0));
  add(equal, PR_SET_SECCOMP, 0, 3);
  add(load, argument(1));
  add(equal, SECCOMP_MODE_FILTER, 0, 1);
  add(answer, invalid);
  add(answer, allow);
  add(at_least, newer_calls_begin, 3);
  add(at_least, free_calls_end, 1);
  add(at_least, free_calls_begin, 1 + 2 * calls);
  add(answer, allow);
  for (const auto& one : newer_calls) {
    add(equal, one.number, 0, 1);
    add(answer, allow);
  }
  add(answer, unknown);
  sock_fprog all{static_cast<unsigned short>(program.size()), program.data()};
  return static_cast<int>(
      ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &all));
}

}  // namespace ntrace::zone
