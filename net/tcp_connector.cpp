#include "net/tcp_connector.hpp"

#include <fmt/core.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <thread>

namespace ntrace::net {
namespace {

constexpr milliseconds between_attempts{250};  // RFC 8305, section 5
constexpr std::size_t addresses_max = 16;
constexpr int lookups_max = 8;  // of the process; a dead name server holds each for half a minute
std::atomic<int> lookups{0};

/// getaddrinfo's code; `flags` beside AI_NUMERICSERV.
template <class Address>
int resolve(const host_port& to, int flags, std::vector<Address>& out) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | flags;
  addrinfo* found = nullptr;
  const int code = ::getaddrinfo(to.host.c_str(), std::to_string(to.port).c_str(), &hints, &found);
  if (code != 0) return code;
  for (const auto* at = found; at != nullptr && out.size() < addresses_max; at = at->ai_next) {
    Address one{{}, at->ai_addrlen, 0};
    std::memcpy(&one.at, at->ai_addr, at->ai_addrlen);
    out.push_back(one);
  }
  ::freeaddrinfo(found);
  return 0;
}

void watch(int poll, int fd, std::uint32_t events) {
  epoll_event e{};
  e.events = events;
  ::epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e);
}

}  // namespace

struct tcp_connector::resolution {
  unique_fd done{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::mutex mutex;
  std::optional<int> code;
  std::vector<address> found;
};

tcp_connector::tcp_connector(const host_port& to, time_point now, milliseconds deadline,
                             unsigned first)
    : to_{to},
      first_{first},
      until_{now + deadline},
      next_attempt_{now},
      poll_{::epoll_create1(EPOLL_CLOEXEC)} {
  if (std::vector<address> found; resolve(to_, AI_NUMERICHOST, found) == 0) {
    take_addresses(found);
    return;
  }
  if (lookups.fetch_add(1) >= lookups_max) {
    --lookups;
    refusal_ = "earlier lookups of names have not come back yet; does the name server answer?";
    return;
  }
  resolving_ = std::make_shared<resolution>();
  watch(poll_.get(), resolving_->done.get(), EPOLLIN);
  // Detached: a name server may take longer than anybody waits, and nothing can end it early.
  std::thread{[shared = resolving_, to] {
    std::vector<address> found;
    const int code = resolve(to, AI_ADDRCONFIG, found);
    --lookups;
    const std::lock_guard lock{shared->mutex};
    shared->code = code;
    shared->found = std::move(found);
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto n = ::write(shared->done.get(), &one, sizeof one);
  }}.detach();
}

tcp_connector::~tcp_connector() = default;

std::vector<std::size_t> order_of_addresses(const std::vector<int>& families, unsigned first) {
  std::deque<std::size_t> one, other;
  for (std::size_t i = 0; i < families.size(); ++i)
    (families[i] == families.front() ? one : other).push_back(i);
  std::vector<std::size_t> out;
  while (!one.empty() || !other.empty())
    for (auto* from : {&one, &other})
      if (!from->empty()) {
        out.push_back(from->front());
        from->pop_front();
      }
  if (!out.empty())
    std::rotate(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(first % out.size()),
                out.end());
  return out;
}

void tcp_connector::take_addresses(const std::vector<address>& found) {
  std::vector<int> families;
  for (const auto& a : found) families.push_back(a.at.ss_family);
  auto place = first_;
  for (const auto i : order_of_addresses(families, first_)) {
    addresses_.push_back(found[i]);
    addresses_.back().place = place++ % static_cast<unsigned>(found.size());
  }
}

time_point tcp_connector::next() const {
  return addresses_.empty() ? until_ : std::min(until_, next_attempt_);
}

/// True when it connected at once.
bool tcp_connector::begin(time_point now) {
  const auto to = addresses_.front();
  addresses_.pop_front();
  next_attempt_ = now + between_attempts;
  unique_fd fd{::socket(to.at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!fd) {
    last_errno_ = errno;
    next_attempt_ = now;
    return false;
  }
  const int one = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  const bool at_once = ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to.at), to.size) == 0;
  if (!at_once && errno != EINPROGRESS) {
    last_errno_ = errno;
    next_attempt_ = now;
    return false;
  }
  watch(poll_.get(), fd.get(), EPOLLOUT);
  attempts_.push_back({std::move(fd), now, to.place});
  return at_once;
}

std::optional<result<tcp_connection>> tcp_connector::pump(time_point now) {
  bool is_resolved = false;
  if (resolving_) {
    const std::lock_guard lock{resolving_->mutex};
    is_resolved = resolving_->code.has_value();
    if (is_resolved) {
      ::epoll_ctl(poll_.get(), EPOLL_CTL_DEL, resolving_->done.get(), nullptr);
      if (*resolving_->code != 0)
        return fail(ec::unreachable, fmt::format("cannot resolve {}: {}", to_.host,
                                                 ::gai_strerror(*resolving_->code)));
      take_addresses(resolving_->found);
      next_attempt_ = now;
    }
  }
  if (is_resolved) resolving_.reset();
  for (auto at = attempts_.begin(); at != attempts_.end();) {
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    if (::getpeername(at->fd.get(), reinterpret_cast<sockaddr*>(&peer), &size) == 0) {
      ::epoll_ctl(poll_.get(), EPOLL_CTL_DEL, at->fd.get(), nullptr);
      return tcp_connection{
          std::move(at->fd),
          std::chrono::duration_cast<std::chrono::microseconds>(steady_clock::now() - at->since),
          at->place};
    }
    int problem = 0;
    socklen_t problem_size = sizeof problem;
    ::getsockopt(at->fd.get(), SOL_SOCKET, SO_ERROR, &problem, &problem_size);
    if (problem == 0) {
      ++at;
      continue;
    }
    last_errno_ = problem;
    next_attempt_ = now;
    at = attempts_.erase(at);
  }
  while (!addresses_.empty() && now >= next_attempt_)
    if (begin(now)) return pump(now);
  const bool is_over = !resolving_ && addresses_.empty() && attempts_.empty();
  if (!is_over && now < until_) return {};
  const std::string why = !refusal_.empty() ? refusal_
                          : is_over         ? std::strerror(last_errno_)
                          : resolving_      ? "the name server does not answer"
                                            : "nobody takes the connection in time";
  return fail(ec::unreachable, fmt::format("cannot connect to {}: {}", to_.text(), why));
}

}  // namespace ntrace::net
