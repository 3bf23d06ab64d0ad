#include "net/local_sockets.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "config/gauges.hpp"
#include "net/socket.hpp"

namespace ntrace::net {
namespace {

constexpr std::uint64_t listener_key = UINT64_MAX;
constexpr int backlog = 128;
constexpr int accepts_per_turn = 64;
constexpr milliseconds descriptors_pause{100};
constexpr milliseconds closing_max{30'000};

void set_no_delay(int fd) {
  const int one = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

}  // namespace

local_sockets::local_sockets(std::function<socket_id()> next_id, std::size_t connections_max)
    : next_id_{std::move(next_id)},
      connections_max_{connections_max},
      poll_{::epoll_create1(EPOLL_CLOEXEC)},
      scratch_(64u << 10) {}

result<void> local_sockets::listen(const host_port& at) {
  auto made = listen_tcp(at, backlog);
  if (!made) return fail(made.error());
  listener_ = std::move(*made);
  watch_listener(true);
  return {};
}

void local_sockets::watch_listener(bool on) {
  if (!listener_ || is_listener_watched_ == on) return;
  epoll_event e{};
  e.events = EPOLLIN;
  e.data.u64 = listener_key;
  ::epoll_ctl(poll_.get(), on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, listener_.get(), &e);
  is_listener_watched_ = on;
}

void local_sockets::watch(iterator at) {
  auto& s = at->second;
  std::uint32_t wanted = 0;
  if (s.is_reading && !s.has_ended && !s.is_connecting && !s.is_closing) wanted |= EPOLLIN;
  if (s.is_connecting || !s.out.empty()) wanted |= EPOLLOUT;
  if (wanted == s.watched) return;
  epoll_event e{};
  e.events = wanted;
  e.data.u64 = at->first;
  ::epoll_ctl(poll_.get(), EPOLL_CTL_MOD, s.fd.get(), &e);
  s.watched = wanted;
}

time_point local_sockets::next() const {
  auto out = accept_at_;
  for (const auto& [id, s] : sockets_) out = std::min(out, s.until);
  return out;
}

void local_sockets::accept_some(time_point now) {
  for (int i = 0; i < accepts_per_turn && sockets_.size() < connections_max_; ++i) {
    unique_fd fd{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (!fd) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        ++gauges::value("tunnel_accept_pauses");
        watch_listener(false);
        accept_at_ = now + descriptors_pause;
      }
      return;
    }
    set_no_delay(fd.get());
    const auto id = next_id_();
    epoll_event e{};
    e.events = EPOLLIN;
    e.data.u64 = id;
    ::epoll_ctl(poll_.get(), EPOLL_CTL_ADD, fd.get(), &e);
    auto& s = sockets_[id];
    s.fd = std::move(fd);
    s.watched = EPOLLIN;
    events_.push_back(local_accepted{id});
  }
  if (sockets_.size() >= connections_max_) watch_listener(false);
}

void local_sockets::connect(socket_id id, const host_port& to) {
  auto& s = sockets_[id];
  s.is_connecting = true;
  s.fd = unique_fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  set_no_delay(s.fd.get());
  epoll_event e{};
  e.events = s.watched = EPOLLOUT;
  e.data.u64 = id;
  const auto address = numeric_address(to);
  if (!address || !s.fd || ::epoll_ctl(poll_.get(), EPOLL_CTL_ADD, s.fd.get(), &e) != 0 ||
      (::connect(s.fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0 &&
       errno != EINPROGRESS))
    fail_socket(sockets_.find(id));
}

/// Told once; its owner then closes it.
void local_sockets::fail_socket(iterator at) {
  const auto id = at->first;
  discard(at, true);
  events_.push_back(local_broken{id});
}

void local_sockets::discard(iterator at, bool is_reset) {
  if (is_reset) {
    const linger none{1, 0};
    ::setsockopt(at->second.fd.get(), SOL_SOCKET, SO_LINGER, &none, sizeof none);
  }
  sockets_.erase(at);
  if (sockets_.size() < connections_max_ && accept_at_ == time_point::max()) watch_listener(true);
}

void local_sockets::receive(iterator at) {
  auto& s = at->second;
  const auto n = ::recv(s.fd.get(), scratch_.data(), scratch_.size(), 0);
  if (n > 0) {
    events_.push_back(local_bytes{at->first, {scratch_.data(), static_cast<std::size_t>(n)}});
  } else if (n == 0) {
    s.has_ended = true;
    events_.push_back(local_end{at->first});
    watch(at);
  } else if (errno != EAGAIN && errno != EINTR) {
    fail_socket(at);
  }
}

void local_sockets::flush(iterator at) {
  auto& s = at->second;
  std::size_t taken = 0;
  while (!s.out.empty() && !s.is_connecting) {
    const auto& front = s.out.front();
    const auto n =
        ::send(s.fd.get(), front.data() + s.out_offset, front.size() - s.out_offset, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) return s.is_closing ? discard(at, true) : fail_socket(at);
    taken += static_cast<std::size_t>(n);
    s.out_offset += static_cast<std::size_t>(n);
    if (s.out_offset < front.size()) continue;
    s.out.pop_front();
    s.out_offset = 0;
  }
  if (taken > 0 && !s.is_closing) events_.push_back(local_took{at->first, taken});
  if (s.out.empty() && !s.is_connecting && s.is_closing) return discard(at, false);
  if (s.out.empty() && !s.is_connecting && s.end_wanted && !std::exchange(s.end_sent, true))
    ::shutdown(s.fd.get(), SHUT_WR);
  watch(at);
}

void local_sockets::write(socket_id id, std::string data) {
  const auto at = sockets_.find(id);
  if (at == sockets_.end() || data.empty()) return;
  const bool was_empty = at->second.out.empty();
  at->second.out.push_back(std::move(data));
  if (was_empty) flush(at);
}

void local_sockets::end(socket_id id) {
  const auto at = sockets_.find(id);
  if (at == sockets_.end()) return;
  at->second.end_wanted = true;
  flush(at);
}

void local_sockets::set_reading(socket_id id, bool on) {
  const auto at = sockets_.find(id);
  if (at == sockets_.end()) return;
  at->second.is_reading = on;
  watch(at);
}

void local_sockets::close(time_point now, socket_id id, bool is_reset) {
  const auto at = sockets_.find(id);
  if (at == sockets_.end()) return;
  if (is_reset || at->second.out.empty()) return discard(at, is_reset);
  at->second.is_closing = true;
  at->second.until = now + closing_max;
  flush(at);
}

std::vector<local_event> local_sockets::pump(time_point now) {
  if (now >= accept_at_) {
    accept_at_ = time_point::max();
    watch_listener(sockets_.size() < connections_max_);
  }
  for (auto at = sockets_.begin(); at != sockets_.end();) {
    const auto here = at++;
    if (now >= here->second.until) discard(here, true);
  }
  std::array<epoll_event, 64> ready{};
  const int n = ::epoll_wait(poll_.get(), ready.data(), static_cast<int>(ready.size()), 0);
  for (int i = 0; i < n; ++i) {
    const auto& e = ready[static_cast<std::size_t>(i)];
    const socket_id id = e.data.u64;  // A copy: epoll_event is packed, so no reference to it.
    if (id == listener_key) {
      accept_some(now);
      continue;
    }
    const auto at = sockets_.find(id);
    if (at == sockets_.end()) continue;
    auto& s = at->second;
    if (s.is_connecting && (e.events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) {
      int problem = 0;
      socklen_t size = sizeof problem;
      ::getsockopt(s.fd.get(), SOL_SOCKET, SO_ERROR, &problem, &size);
      if (problem != 0) {
        fail_socket(at);
        continue;
      }
      s.is_connecting = false;
      flush(at);
      continue;
    }
    // A reset, also of a socket that is not read at the moment.
    const bool is_over =
        (e.events & EPOLLHUP) != 0 && (s.has_ended || !s.is_reading || s.is_closing);
    if ((e.events & EPOLLERR) != 0 || is_over) {
      s.is_closing ? discard(at, true) : fail_socket(at);
      continue;
    }
    const bool wants_out = (e.events & EPOLLOUT) != 0;
    if ((e.events & (EPOLLIN | EPOLLHUP)) != 0 && s.is_reading && !s.has_ended && !s.is_closing)
      receive(at);
    if (const auto again = sockets_.find(id); wants_out && again != sockets_.end()) flush(again);
  }
  return std::exchange(events_, {});
}

}  // namespace ntrace::net
