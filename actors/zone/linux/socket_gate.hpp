#pragma once
// How many sockets a zone may have. What waits in a socket's queues is not all charged to the
// zone's memory: answers of netlink, queues of errors, connections that nobody has accepted yet.
// And the machine counts the connections that were closed with data unsent.
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace ntrace::zone {

/// In zone init: decides about each new socket. A process may make one while its network namespace
/// has fewer than `most`; else the call fails with ENOBUFS. Sockets that the program does not ask
/// for (of accept(2), of AF_UNIX) are counted, too.
class socket_gate {
public:
  socket_gate(int listener, std::uint64_t most) : listener_{listener}, most_{most} {}
  int fd() const { return listener_; }
  void answer() const {
    seccomp_notif asked{};
    if (::ioctl(listener_, SECCOMP_IOCTL_NOTIF_RECV, &asked) != 0) return;  // The caller is dead.
    seccomp_notif_resp answer{};
    answer.id = asked.id;
    // The kernel goes on with the arguments that it has, which are no pointers.
    if (sockets() < most_)
      answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    else
      answer.error = -ENOBUFS;
    ::ioctl(listener_, SECCOMP_IOCTL_NOTIF_SEND, &answer);
  }

private:
  /// Of this network namespace; too many when it cannot be seen.
  static std::uint64_t sockets() {
    constexpr const char* name = "sockets: used ";
    char text[64]{};
    const int file = ::open("/proc/self/net/sockstat", O_RDONLY | O_CLOEXEC);
    const auto n = file < 0 ? -1 : ::read(file, text, sizeof text - 1);
    if (file >= 0) ::close(file);
    if (n <= 0 || std::strncmp(text, name, std::strlen(name)) != 0) return UINT64_MAX;
    return std::strtoull(text + std::strlen(name), nullptr, 10);
  }

  int listener_;
  std::uint64_t most_;
};

}  // namespace ntrace::zone
