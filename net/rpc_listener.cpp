#include "net/rpc_listener.hpp"

#include <fmt/core.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "config/gauges.hpp"
#include "config/limits.hpp"
#include "config/log.hpp"
#include "config/overload.hpp"

namespace ntrace::net {
namespace {

constexpr int backlog = 512;
constexpr int ready_max = 64;  // sockets that are looked at in one round: what they ask goes on
constexpr std::size_t read_bytes = 64u << 10;
constexpr auto sweep_every = std::chrono::seconds{5};
constexpr auto foreign_log_every = std::chrono::seconds{10};
// Ids of epoll that are no peer's.
constexpr peer_id door_id = 0, tasks_id = ~peer_id{0};
/// Of the process: a port that was started again must not reuse numbers of the one before.
std::atomic<peer_id> next_peer{1};

std::uint16_t port_of(int fd) {
  sockaddr_storage at{};
  socklen_t size = sizeof at;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size) != 0) return 0;
  return ntohs(at.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(at).sin6_port
                                        : reinterpret_cast<const sockaddr_in&>(at).sin_port);
}

std::string host_of(const sockaddr_storage& at, socklen_t size) {
  char host[NI_MAXHOST] = "";
  ::getnameinfo(reinterpret_cast<const sockaddr*>(&at), size, host, sizeof host, nullptr, 0,
                NI_NUMERICHOST);
  return host;
}

/// A peer whose machine vanished sends no end: the kernel asks, and gives up within a lease.
void tune(int fd) {
  struct option {
    int level, name, value;
  };
  for (const auto& o : {option{IPPROTO_TCP, TCP_NODELAY, 1}, option{SOL_SOCKET, SO_KEEPALIVE, 1},
                        option{IPPROTO_TCP, TCP_KEEPIDLE, limits::keepalive_idle_s},
                        option{IPPROTO_TCP, TCP_KEEPINTVL, limits::keepalive_interval_s},
                        option{IPPROTO_TCP, TCP_KEEPCNT, limits::keepalive_probes},
                        option{IPPROTO_TCP, TCP_USER_TIMEOUT, limits::unacknowledged_ms}})
    ::setsockopt(fd, o.level, o.name, &o.value, sizeof o.value);
}

bool add(int ready, peer_id id, int fd, std::uint32_t events) {
  epoll_event on{};
  on.events = events;
  on.data.u64 = id;
  return ::epoll_ctl(ready, EPOLL_CTL_ADD, fd, &on) == 0;
}

}  // namespace

result<std::unique_ptr<rpc_listener>> rpc_listener::open(const host_port& at) {
  auto door = listen_tcp(at, backlog);
  if (!door) return fail(door.error());
  std::unique_ptr<rpc_listener> out{new rpc_listener};
  out->door_ = std::move(*door);
  out->port_ = port_of(out->door_.get());
  out->first_peer_ = next_peer;
  out->ready_ = unique_fd{::epoll_create1(EPOLL_CLOEXEC)};
  if (!out->ready_ || out->tasks_->fd() < 0 ||
      !add(out->ready_.get(), tasks_id, out->tasks_->fd(), EPOLLIN))
    return fail(io_error("make an epoll for", at.text(), errno));
  out->watch_door(true);
  return out;
}

void rpc_listener::serve(rpc_service& service) {
  service_ = &service;
  thread_ = std::thread{[this] { run(); }};
}

rpc_listener::~rpc_listener() {
  if (thread_.joinable()) {
    tasks_->post([this] { service_ = nullptr; });
    thread_.join();
  }
  tasks_->close();
  static auto& connections = gauges::value("rpc_connections");
  connections -= static_cast<std::int64_t>(peers_.size());
}

/// What is thrown here must not end the process: the owner's supervisor decides.
void rpc_listener::run() {
  ::pthread_setname_np(::pthread_self(), "rpc_listener");
  std::string why;
  try {
    return loop();
  } catch (const std::exception& e) {
    why = e.what();
  }
  log::error("rpc.listener_failed", {{"port", port_}, {"reason", why}});
  service_->on_failed({ec::defect, fmt::format("the port {} failed: {}", port_, why), {}});
}

void rpc_listener::loop() {
  next_sweep_ = steady_clock::now() + sweep_every;
  bool polls = false;
  for (;;) {
    const bool waits = !polls && !tasks_->about_to_wait();
    const auto before = work_done_;
    look(waits ? patience_ms(steady_clock::now()) : 0);
    for (auto& task : tasks_->take()) {
      task();
      if (!service_) return;
      ++work_done_;
    }
    service_->on_round();
    const auto now = steady_clock::now();
    if (now >= next_sweep_) sweep(now);
    if (work_done_ != before) {
      poll_.found();
      polls = poll_.begin(now);
    } else if (polls) {
      polls = poll_.goes_on(now);
      ::sched_yield();  // To whom needs the CPU more.
    }
  }
}

int rpc_listener::patience_ms(time_point now) const {
  return static_cast<int>(
      std::max<std::int64_t>(0, std::chrono::ceil<milliseconds>(next_sweep_ - now).count()));
}

void rpc_listener::look(int timeout_ms) {
  epoll_event on[ready_max];
  const int count = ::epoll_wait(ready_.get(), on, ready_max, timeout_ms);
  if (count < 0 && errno != EINTR)
    throw std::runtime_error{"epoll_wait: " + std::generic_category().message(errno)};
  for (int i = 0; i < count; ++i) {
    const auto id = on[i].data.u64;
    if (id == door_id)
      take_connections();
    else if (id != tasks_id)
      on_event(id, on[i].events);
  }
}

void rpc_listener::watch_door(bool wanted) {
  if (wanted == takes_connections_) return;
  // What cannot be watched now is tried again by the next sweep.
  takes_connections_ = wanted && add(ready_.get(), door_id, door_.get(), EPOLLIN);
  if (!wanted) ::epoll_ctl(ready_.get(), EPOLL_CTL_DEL, door_.get(), nullptr);
}

void rpc_listener::take_connections() {
  static auto &connections = gauges::value("rpc_connections"),
              &refused = gauges::value("rpc_connections_refused"),
              &failures = gauges::value("rpc_accept_failures");
  const auto count_failure = [&](int why) {
    ++failures;
    log::error("rpc.accept_failed",
               {{"connections", peers_.size()}, {"reason", std::generic_category().message(why)}});
  };
  for (;;) {
    sockaddr_storage from{};
    socklen_t size = sizeof from;
    unique_fd fd{::accept4(door_.get(), reinterpret_cast<sockaddr*>(&from), &size,
                           SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (!fd) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) return;
      // One that was gone before it was taken; accept(2).
      if (errno == ECONNABORTED || errno == EPROTO || errno == EPERM || errno == EINTR) continue;
      // No descriptors or memory are left. Connections wait in the backlog until the next sweep:
      // asking at once would turn in a circle.
      count_failure(errno);
      watch_door(false);
      return;
    }
    if (peers_.size() >= limits::connections_max) {
      ++refused;
      continue;
    }
    tune(fd.get());
    const auto id = next_peer++;
    if (!add(ready_.get(), id, fd.get(), EPOLLIN)) {
      count_failure(errno);
      continue;
    }
    auto& p = peers_[id];
    p.fd = std::move(fd);
    p.address = host_of(from, size);
    p.watched = EPOLLIN;
    ++connections;
  }
}

void rpc_listener::on_event(peer_id id, std::uint32_t events) {
  const auto at = peers_.find(id);
  if (at == peers_.end()) return;
  auto& p = at->second;
  if ((events & EPOLLIN) != 0 && p.reads) return read(id, p);
  if ((events & (EPOLLERR | EPOLLHUP)) != 0) return perform(id, p.fsm.on_broken());
  if ((events & EPOLLOUT) != 0) send_rest(id, p);
}

void rpc_listener::read(peer_id id, peer& p) {
  static thread_local char buffer[read_bytes];
  const auto got = ::recv(p.fd.get(), buffer, sizeof buffer, 0);
  const auto now = steady_clock::now();
  if (got > 0) return perform(id, p.fsm.on_bytes(now, {buffer, static_cast<std::size_t>(got)}));
  if (got < 0) return errno == EAGAIN || errno == EINTR ? void() : perform(id, p.fsm.on_broken());
  p.reads = false;
  watch(id, p);
  perform(id, p.fsm.on_half_close(now));
}

/// Takes up what the peer's state wants to hear of.
void rpc_listener::watch(peer_id id, peer& p) {
  const auto wanted =
      (p.reads ? std::uint32_t{EPOLLIN} : 0u) | (p.unsent.empty() ? 0u : std::uint32_t{EPOLLOUT});
  if (wanted == std::exchange(p.watched, wanted)) return;
  epoll_event on{};
  on.events = wanted;
  on.data.u64 = id;
  ::epoll_ctl(ready_.get(), EPOLL_CTL_MOD, p.fd.get(), &on);
}

void rpc_listener::write(peer_id id, std::string_view text) {
  auto& p = peers_.at(id);
  const bool waits = !p.unsent.empty();
  if (!waits) {
    const auto sent = ::send(p.fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return perform(id, p.fsm.on_broken());
    text.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(sent, 0)));
    if (text.empty()) return perform(id, p.fsm.on_written(steady_clock::now(), 0));
  }
  p.unsent.append(text);
  watch(id, p);
}

void rpc_listener::send_rest(peer_id id, peer& p) {
  const auto sent = ::send(p.fd.get(), p.unsent.data(), p.unsent.size(), MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN || errno == EINTR ? void() : perform(id, p.fsm.on_broken());
  p.unsent.erase(0, static_cast<std::size_t>(sent));
  watch(id, p);
  perform(id, p.fsm.on_written(steady_clock::now(), p.unsent.size()));
}

void rpc_listener::answer(peer_id id, const rpc_request& request, const result<std::string>& text) {
  const auto at = peers_.find(id);
  if (at == peers_.end()) return;
  if (!text && !request.wants_reply)  // Nobody is told of it otherwise.
    log::warn("rpc.request_failed",
              {{"peer", id}, {"method", request.method}, {"reason", to_string(text.error())}});
  perform(id, at->second.fsm.on_answer(steady_clock::now(), request, text));
}

void rpc_listener::notify(peer_id id, std::string_view method, const json& args) {
  if (const auto at = peers_.find(id); at != peers_.end())
    perform(id, at->second.fsm.on_notify(steady_clock::now(), method, args));
}

void rpc_listener::perform(peer_id id, peer_effects todo) {
  for (auto& one : todo) {
    const auto at = peers_.find(id);
    if (at == peers_.end()) return;
    auto& p = at->second;
    std::visit(overload{[&](serve_request& e) {
                          ++work_done_;
                          service_->on_request(id, p.address, std::move(e.request));
                        },
                        [&](const write_bytes& e) { write(id, e.text); },
                        [&](const refuse_foreign& e) { note_foreign(p, e.first_bytes); },
                        [&](const stop_reading&) {
                          p.reads = false;
                          watch(id, p);
                        },
                        [&](const read_again&) {
                          p.reads = true;
                          watch(id, p);
                        },
                        [&](const peer_is_gone&) { service_->on_gone(id); },
                        [&](const close_connection&) {
                          static auto& connections = gauges::value("rpc_connections");
                          --connections;
                          peers_.erase(at);
                        }},
               one);
  }
}

/// A page that tries again and again fills no log.
void rpc_listener::note_foreign(const peer& p, const std::string& first_bytes) {
  static auto& refused = gauges::value("rpc_refused_foreign");
  const auto count = ++refused;
  const auto now = steady_clock::now();
  if (now < next_foreign_log_) return;
  next_foreign_log_ = now + foreign_log_every;
  log::warn(
      "rpc.foreign_refused",
      {{"port", port_}, {"from", p.address}, {"first_bytes", first_bytes}, {"refused", count}});
}

/// Gives up peers that do not read, and tries again to accept after a lack of descriptors.
void rpc_listener::sweep(time_point now) {
  next_sweep_ = now + sweep_every;
  std::vector<std::pair<peer_id, peer_effects>> stuck;
  for (auto& [id, p] : peers_)
    if (auto todo = p.fsm.on_tick(now); !todo.empty()) stuck.emplace_back(id, std::move(todo));
  for (auto& [id, todo] : stuck) {
    ++gauges::value("rpc_connections_stuck");
    log::warn("rpc.peer_does_not_read", {{"peer", id}});
    perform(id, std::move(todo));
  }
  watch_door(true);
  gauges::value("rpc_polls_missed") = poll_.missed();
}

}  // namespace ntrace::net
