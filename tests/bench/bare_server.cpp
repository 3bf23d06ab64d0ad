#include "tests/bench/bare_server.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <utility>

#include "tests/bench/push_load.hpp"

namespace ntrace::bench {
namespace {

/// As long as the answer to a push.
constexpr std::string_view answer =
    "[[null,{\"duplicate\":false,\"journal_seq\":1234567,\"run\":\"01M876B6J4KZP9X4YQXE3X75SJ\","
    "\"state\":\"queued\"}],1]\n";

void watch(int ready, int fd) {
  epoll_event on{};
  on.events = EPOLLIN;
  on.data.fd = fd;
  ::epoll_ctl(ready, EPOLL_CTL_ADD, fd, &on);
}

}  // namespace

result<std::unique_ptr<bare_server>> bare_server::start(const std::string& log) {
  std::unique_ptr<bare_server> out{new bare_server};
  if (!log.empty()) {
    auto file = written_file(log);
    if (!file) return fail(file.error());
    out->log_ = std::move(*file);
  }
  out->door_ = unique_fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  out->end_ = unique_fd{::eventfd(0, EFD_CLOEXEC)};
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* address = reinterpret_cast<sockaddr*>(&at);
  socklen_t size = sizeof at;
  if (!out->end_ || ::bind(out->door_.get(), address, size) != 0 ||
      ::listen(out->door_.get(), 128) != 0 || ::getsockname(out->door_.get(), address, &size) != 0)
    return fail(io_error("serve", "127.0.0.1", errno));
  out->port_ = ntohs(at.sin_port);
  out->thread_ = std::thread{[server = out.get()] { server->serve(); }};
  return out;
}

bare_server::~bare_server() {
  if (!thread_.joinable()) return;
  ::eventfd_write(end_.get(), 1);
  thread_.join();
}

bool bare_server::keep(std::string_view line) {
  if (!log_) return true;
  if (log_end_ + line.size() > written_bytes) log_end_ = 0;
  const auto at = static_cast<off_t>(std::exchange(log_end_, log_end_ + line.size()));
  return ::pwrite(log_.get(), line.data(), line.size(), at) == static_cast<ssize_t>(line.size()) &&
         ::fdatasync(log_.get()) == 0;
}

void bare_server::serve() {
  const unique_fd ready{::epoll_create1(EPOLL_CLOEXEC)};
  watch(ready.get(), door_.get());
  watch(ready.get(), end_.get());
  std::map<int, unique_fd> peers;
  char buffer[16 << 10];
  for (;;) {
    epoll_event on[64];
    const int count = ::epoll_wait(ready.get(), on, 64, -1);
    if (count < 0 && errno != EINTR) return;  // Its clients say that nobody answers.
    for (int i = 0; i < count; ++i) {
      const int fd = on[i].data.fd;
      if (fd == end_.get()) return;
      if (fd == door_.get()) {
        unique_fd peer{::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC)};
        const int one = 1;
        ::setsockopt(peer.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(ready.get(), peer.get());
        const int number = peer.get();
        peers[number] = std::move(peer);
        continue;
      }
      const auto got = ::recv(fd, buffer, sizeof buffer, 0);
      if (got <= 0 || !keep({buffer, static_cast<std::size_t>(got)}) ||
          ::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL) < 0)
        peers.erase(fd);
    }
  }
}

}  // namespace ntrace::bench
