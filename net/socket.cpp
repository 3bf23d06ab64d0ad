#include "net/socket.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "net/port_owner.hpp"

namespace ntrace::net {

bool wait_ready(int fd, bool for_write, milliseconds deadline, const cancellation* stop) {
  std::array<pollfd, 2> fds{{{fd, static_cast<short>(for_write ? POLLOUT : POLLIN), 0},
                             {stop ? stop->fd() : -1, POLLIN, 0}}};
  const auto end = steady_clock::now() + deadline;
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(end - steady_clock::now()).count();
    const int n = ::poll(fds.data(), fds.size(), static_cast<int>(std::max<std::int64_t>(left, 0)));
    if (n < 0 && errno == EINTR) continue;
    return n > 0 && fds[1].revents == 0;
  }
}

bool send_all(int fd, std::string_view data, milliseconds deadline) {
  const auto end = steady_clock::now() + deadline;
  while (!data.empty()) {
    const auto n = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (n > 0) {
      data.remove_prefix(static_cast<std::size_t>(n));
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN) return false;
    const auto left = std::chrono::ceil<milliseconds>(end - steady_clock::now());
    if (left.count() <= 0 || !wait_ready(fd, true, left)) return false;
  }
  return true;
}

int look_up(const host_port& name, int flags, socket_addresses& out) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | flags;
  addrinfo* found = nullptr;
  if (const int code =
          ::getaddrinfo(name.host.c_str(), std::to_string(name.port).c_str(), &hints, &found);
      code != 0)
    return code;
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses{found, &::freeaddrinfo};
  for (const auto* at = found; at != nullptr; at = at->ai_next) {
    auto& one = out.emplace_back();
    one.size = at->ai_addrlen;
    std::memcpy(&one.value, at->ai_addr, at->ai_addrlen);
  }
  return 0;
}

namespace {

result<socket_addresses> resolve(const host_port& at, int flags) {
  socket_addresses out;
  if (const int code = look_up(at, flags, out); code != 0)
    return fail(ec::unreachable, fmt::format("cannot resolve {}: {}", at.host, gai_strerror(code)));
  return out;
}

}  // namespace

result<unique_fd> connect_tcp(const host_port& to, milliseconds deadline) {
  const auto found = resolve(to, 0);
  if (!found) return fail(found.error());
  int last_errno = ETIMEDOUT;
  for (const auto& at : *found) {
    unique_fd fd{::socket(at.get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!fd) {
      last_errno = errno;
      continue;
    }
    if (::connect(fd.get(), at.get(), at.size) != 0) {
      last_errno = errno;
      if (errno != EINPROGRESS || !wait_ready(fd.get(), true, deadline)) continue;
      socklen_t size = sizeof last_errno;
      ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &last_errno, &size);
      if (last_errno != 0) continue;
    }
    const int one = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
  }
  return fail(ec::unreachable,
              fmt::format("cannot connect to {}: {}", to.text(), std::strerror(last_errno)));
}

void limit_unacknowledged(int fd, milliseconds longest) {
  const auto ms = static_cast<unsigned>(longest.count());
  ::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
}

std::optional<sockaddr_in> numeric_address(const host_port& at) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(at.port);
  if (::inet_pton(AF_INET, at.host.c_str(), &out.sin_addr) != 1) return {};
  return out;
}

result<unique_fd> listen_tcp(const host_port& at, int backlog) {
  const auto found = resolve(at, AI_PASSIVE);
  if (!found) return fail(found.error());
  const auto& to = found->front();
  unique_fd fd{::socket(to.get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  const int one = 1;
  if (!fd || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
      ::bind(fd.get(), to.get(), to.size) != 0 || ::listen(fd.get(), backlog) != 0) {
    const int why = errno;
    const auto owner = why == EADDRINUSE ? port_owner(at.port) : "";
    return fail(
        ec::unreachable,
        fmt::format("cannot listen on {}: {}{}", at.text(), std::strerror(why),
                    owner.empty() ? "; `ss -ltnp` shows who has it" : "; " + owner + " has it"));
  }
  return fd;
}

}  // namespace ntrace::net
