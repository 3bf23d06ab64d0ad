#include "actors/dashboard/http_port.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <semaphore>

#include "config/gauges.hpp"

namespace ntrace::dashboard {
namespace {

constexpr milliseconds answer_max{5000};  // from its first byte to its last
constexpr int backlog = 512;
constexpr std::size_t head_bytes_max = 64u << 10;

/// The accepting thread waits while all threads are taken.
class bounded_pool : public httplib::TaskQueue {
public:
  void enqueue(std::function<void()> work) override {
    static auto& taken = gauges::value("webhook_connections");
    free_.acquire();
    ++taken;
    pool_.enqueue([this, work = std::move(work)] {
      work();
      --taken;
      free_.release();
    });
  }
  void shutdown() override { pool_.shutdown(); }

private:
  std::counting_semaphore<http_port::connections_max> free_{http_port::connections_max};
  httplib::ThreadPool pool_{http_port::connections_max};
};

/// One request's socket: all reads together end at a deadline, and so do all writes.
class bounded_stream final : public httplib::Stream {
public:
  bounded_stream(int fd, int stops, const http_limits& limits)
      : fd_{fd},
        stops_{stops},
        deadline_{now() + limits.request},
        bytes_left_{head_bytes_max + limits.body_bytes} {}

  /// The peer was waited for in vain.
  bool is_late() const { return is_late_; }

  bool is_readable() const override { return from_ < to_ || wait(POLLIN); }
  bool is_writable() const override { return wait(POLLOUT); }

  ssize_t read(char* out, std::size_t size) override {
    if (from_ == to_) {
      // httplib asks for single bytes of the head.
      const auto want = std::min(buffer_.size(), bytes_left_);
      if (want == 0 || !wait(POLLIN)) return -1;
      const auto got = ::recv(fd_, buffer_.data(), want, 0);
      if (got <= 0) return got;
      from_ = 0;
      to_ = static_cast<std::size_t>(got);
      bytes_left_ -= to_;
    }
    const auto given = std::min(size, to_ - from_);
    std::copy_n(buffer_.data() + from_, given, out);
    from_ += given;
    return static_cast<ssize_t>(given);
  }

  ssize_t write(const char* data, std::size_t size) override {
    if (!std::exchange(is_answered_, true)) deadline_ = std::max(deadline_, now() + answer_max);
    return wait(POLLOUT) ? ::send(fd_, data, size, MSG_NOSIGNAL | MSG_DONTWAIT) : -1;
  }

  void get_remote_ip_and_port(std::string& ip, int& port) const override {
    address(&::getpeername, ip, port);
  }
  void get_local_ip_and_port(std::string& ip, int& port) const override {
    address(&::getsockname, ip, port);
  }
  socket_t socket() const override { return fd_; }

private:
  static time_point now() { return std::chrono::steady_clock::now(); }

  bool wait(short what) const {
    std::array<pollfd, 2> on{pollfd{fd_, what, 0}, pollfd{stops_, POLLIN, 0}};
    for (;;) {
      const auto left = std::chrono::ceil<milliseconds>(deadline_ - now());
      const int ready =
          ::poll(on.data(), on.size(), static_cast<int>(std::max<std::int64_t>(0, left.count())));
      if (ready < 0 && errno == EINTR) continue;
      is_late_ = is_late_ || ready == 0;
      return ready > 0 && on[1].revents == 0;
    }
  }

  template <class Get>
  void address(Get get, std::string& ip, int& port) const {
    sockaddr_storage at{};
    socklen_t size = sizeof at;
    char host[NI_MAXHOST] = "", service[NI_MAXSERV] = "";
    if (get(fd_, reinterpret_cast<sockaddr*>(&at), &size) != 0 ||
        ::getnameinfo(reinterpret_cast<sockaddr*>(&at), size, host, sizeof host, service,
                      sizeof service, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
      return;
    ip = host;
    port = std::atoi(service);
  }

  int fd_, stops_;
  time_point deadline_;
  std::size_t bytes_left_;
  bool is_answered_ = false;
  mutable bool is_late_ = false;
  std::array<char, 4096> buffer_{};
  std::size_t from_ = 0, to_ = 0;
};

}  // namespace

http_port::http_port(const http_limits& limits, Handler post)
    : limits_{limits}, stops_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)} {
  new_task_queue = [] { return new bounded_pool; };  // httplib owns it
  set_payload_max_length(limits_.body_bytes);
  set_logger([](const httplib::Request&, const httplib::Response& out) {
    static auto &requests = gauges::value("webhook_requests"),
                &refused = gauges::value("webhook_refused");
    ++requests;
    if (out.status >= 400) ++refused;
  });
  Post("/(.*)", std::move(post));
}

http_port::~http_port() {
  ::eventfd_write(stops_.get(), 1);
  // Not stop(), which does nothing while the thread has not begun.
  if (const auto door = svr_sock_.exchange(INVALID_SOCKET); door != INVALID_SOCKET) {
    ::shutdown(door, SHUT_RDWR);
    ::close(door);
  }
  if (thread_.joinable()) thread_.join();
}

std::uint16_t http_port::listen(const host_port& at) {
  if (!stops_) return 0;
  const int port = at.port == 0                     ? bind_to_any_port(at.host)
                   : bind_to_port(at.host, at.port) ? at.port
                                                    : 0;
  if (port <= 0) return 0;
  ::listen(svr_sock_, backlog);  // httplib's is 5: a burst would wait for TCP's retries.
  thread_ = std::thread{[this] { listen_after_bind(); }};
  return static_cast<std::uint16_t>(port);
}

bool http_port::process_and_close_socket(socket_t socket) {
  static auto& late = gauges::value("webhook_late");
  const unique_fd owned{socket};
  bounded_stream stream{socket, stops_.get(), limits_};
  bool is_closing = true;  // No second request: httplib tells its peer so.
  const bool is_done = process_request(stream, true, is_closing, {});
  if (stream.is_late()) ++late;
  return is_done;
}

}  // namespace ntrace::dashboard
