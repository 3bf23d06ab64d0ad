#include "tests/bench/push_load.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "config/file.hpp"

namespace ntrace::bench {
namespace {

result<unique_fd> dial(std::uint16_t port) {
  unique_fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(port);
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0)
    return fail(io_error("connect to port", std::to_string(port), errno));
  const int one = 1;
  const timeval patience{5, 0};
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return fd;
}

}  // namespace

bool say(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

bool hear(int fd, std::string& heard) {
  char buffer[16 << 10];
  const auto n = ::recv(fd, buffer, sizeof buffer, 0);
  if (n > 0) heard.append(buffer, static_cast<std::size_t>(n));
  return n > 0;
}

void wait_a_moment() { ::poll(nullptr, 0, 20); }

result<void> greet_once(const broker_spec& to) {
  auto fd = dial(to.port);
  if (!fd) return fail(fd.error());
  const auto speaks = to.speak();
  if (auto greeted = speaks->greet(fd->get()); !greeted) return greeted;
  if (to.prepare.empty()) return {};
  std::string heard;
  if (!say(fd->get(), to.prepare)) return fail(ec::io, "cannot prepare " + to.name);
  for (;;) {
    auto done = speaks->answers(heard);
    if (!done) return fail(done.error());
    if (*done > 0) return {};
    if (!hear(fd->get(), heard)) return fail(ec::io, to.name + " hung up");
  }
}

result<broker_load> broker_load::start(const broker_spec& to, unsigned clients) {
  broker_load out;
  out.name_ = to.name;
  out.clients_.resize(clients);
  out.ready_ = unique_fd{::epoll_create1(EPOLL_CLOEXEC)};
  for (unsigned i = 0; i < clients; ++i) {
    auto& c = out.clients_[i];
    auto fd = dial(to.port);
    if (!fd) return fail(fd.error());
    c.fd = std::move(*fd);
    c.speaks = to.speak();
    if (auto greeted = c.speaks->greet(c.fd.get()); !greeted) return fail(greeted.error());
    epoll_event on{};
    on.events = EPOLLIN;
    on.data.u32 = i;
    ::epoll_ctl(out.ready_.get(), EPOLL_CTL_ADD, c.fd.get(), &on);
  }
  return out;
}

bool broker_load::ask(client& c) {
  c.asked_at = steady_now();
  return say(c.fd.get(), c.speaks->request(++asked_));
}

result<bool> broker_load::hear_answer(client& c, time_point count_from) {
  if (!hear(c.fd.get(), c.heard)) return fail(ec::io, name_ + " hung up");
  auto done = c.speaks->answers(c.heard);
  if (!done) return fail(done.error());
  if (*done == 0) return false;
  if (const auto then = steady_now(); then >= count_from)
    latency_us_.push_back(std::chrono::duration<double, std::micro>(then - c.asked_at).count());
  return true;
}

result<void> broker_load::run_slice(milliseconds time) {
  const auto from = steady_now() + warm_up, end = from + time;
  for (auto& c : clients_)
    if (!ask(c)) return fail(ec::io, name_ + " hung up");
  for (auto under_way = clients_.size(); under_way > 0;) {
    epoll_event on[64];
    const int count = ::epoll_wait(ready_.get(), on, 64, 10'000);
    if (count <= 0) return fail(ec::timed_out, name_ + " answers nobody");
    const bool is_over = steady_now() >= end;
    for (int i = 0; i < count; ++i) {
      auto& c = clients_[on[i].data.u32];
      const auto answered = hear_answer(c, from);
      if (!answered) return fail(answered.error());
      if (!*answered) continue;
      if (is_over)
        --under_way;
      else if (!ask(c))
        return fail(ec::io, name_ + " hung up");
    }
  }
  measured_ += steady_now() - from;
  return {};
}

load_figures broker_load::figures() const {
  load_figures out;
  out.latency.us = latency_us_;
  out.per_second = static_cast<double>(latency_us_.size()) / measured_.count();
  std::sort(out.latency.us.begin(), out.latency.us.end());
  return out;
}

result<unique_fd> written_file(const std::string& path) {
  unique_fd fd{::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
  const std::string zeros(written_bytes, '\0');
  if (!fd || !write_all(fd.get(), zeros) || ::fsync(fd.get()) != 0)
    return fail(io_error("write", path, errno));
  return fd;
}

result<double> sync_rate(const std::string& dir, milliseconds time) {
  const auto path = dir + "/sync_rate";
  const auto fd = written_file(path);
  if (!fd) return fail(fd.error());
  const std::string page(4096, 'x');
  std::uint64_t n = 0;
  const auto from = steady_now();
  while (steady_now() < from + time) {
    const auto at = static_cast<off_t>(n * page.size() % written_bytes);
    if (::pwrite(fd->get(), page.data(), page.size(), at) != static_cast<ssize_t>(page.size()) ||
        ::fdatasync(fd->get()) != 0)
      return fail(io_error("write and sync", path, errno));
    ++n;
  }
  const auto took = std::chrono::duration<double>(steady_now() - from).count();
  ::unlink(path.c_str());
  return static_cast<double>(n) / took;
}

}  // namespace ntrace::bench
