#pragma once
// A tunnel's engine over a real sshd, a server behind it, and clients whose messages are numbered.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <functional>
#include <future>
#include <map>
#include <thread>

#include "actors/tunnel/tunnel_engine.hpp"
#include "config/digest.hpp"
#include "net/socket.hpp"
#include "tests/support/real_sshd.hpp"
#include "tests/support/seeded.hpp"

namespace ntrace::test {

using namespace std::chrono_literals;

/// Long enough that random bytes do not begin with it.
constexpr std::string_view sink_word = "!keep it\n";

/// Sends back what it gets, per connection, and its end of file after it. One that begins with
/// sink_word is only read, and answered by "done" at its end.
class echo_server {
public:
  explicit echo_server(int port = free_port())
      : port_{port},
        listener_{ok(net::listen_tcp({"127.0.0.1", static_cast<std::uint16_t>(port)}, 1024))} {
    thread_ = std::thread{[this] { run(); }};
  }
  ~echo_server() {
    stop_.raise();
    thread_.join();
  }
  int port() const { return port_; }
  host_port at() const { return {"127.0.0.1", static_cast<std::uint16_t>(port_)}; }

private:
  struct one {
    unique_fd fd;
    std::string out;
    bool ended = false, is_sink = false, has_begun = false;
  };
  void run() {
    std::map<int, one> open;
    std::string scratch(64 << 10, '\0');
    for (;;) {
      std::vector<pollfd> fds{{stop_.fd(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
      for (const auto& [fd, c] : open)
        fds.push_back({fd,
                       static_cast<short>((c.ended || c.out.size() > 1u << 20 ? 0 : POLLIN) |
                                          (c.out.empty() ? 0 : POLLOUT)),
                       0});
      ::poll(fds.data(), fds.size(), -1);
      if (fds[0].revents != 0) return;
      if (fds[1].revents != 0) {
        unique_fd fd{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
        if (fd) {
          const int number = fd.get();
          const int yes = 1;
          ::setsockopt(number, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
          open[number].fd = std::move(fd);
        }
      }
      for (std::size_t i = 2; i < fds.size(); ++i) {
        const auto at = open.find(fds[i].fd);
        auto& c = at->second;
        bool is_over = (fds[i].revents & (POLLERR | POLLNVAL)) != 0;
        if ((fds[i].revents & (POLLIN | POLLHUP)) != 0 && !c.ended) {
          const auto n = ::recv(fds[i].fd, scratch.data(), scratch.size(), 0);
          if (n > 0 && !std::exchange(c.has_begun, true))
            c.is_sink = scratch.starts_with(sink_word);
          if (n > 0 && !c.is_sink) c.out.append(scratch, 0, static_cast<std::size_t>(n));
          if (n == 0) c.ended = true;
          if (n == 0 && c.is_sink) c.out = "done";
          if (n < 0 && errno != EAGAIN) is_over = true;
        }
        if (!c.out.empty()) {
          const auto n = ::send(fds[i].fd, c.out.data(), c.out.size(), MSG_NOSIGNAL);
          if (n > 0) c.out.erase(0, static_cast<std::size_t>(n));
          if (n < 0 && errno != EAGAIN) is_over = true;
        }
        if (is_over || (c.ended && c.out.empty())) open.erase(at);
      }
    }
  }
  int port_;
  unique_fd listener_;
  cancellation stop_;
  std::thread thread_;
};

/// One client: a numbered line every 10 ms, again over a new connection from the first that was
/// not echoed. Within a connection each number must come back once and in order.
class numbered_traffic {
public:
  explicit numbered_traffic(host_port to) : to_{std::move(to)} {
    thread_ = std::thread{[this] { run(); }};
  }
  ~numbered_traffic() { stop(); }
  void stop() {
    stop_.raise();
    if (thread_.joinable()) thread_.join();
  }
  std::uint64_t echoed() const { return echoed_; }
  std::uint64_t connections() const { return connections_; }
  std::uint64_t disorders() const { return disorders_; }

private:
  void run() {
    while (!stop_.is_raised()) {
      auto fd = net::connect_tcp(to_, 5000ms);
      if (!fd) {
        net::wait_ready(stop_.fd(), false, 5ms);
        continue;
      }
      ++connections_;
      std::uint64_t next = echoed_ + 1;
      std::string in;
      auto send_at = steady_clock::now();
      for (bool is_open = true; is_open && !stop_.is_raised();) {
        if (steady_clock::now() >= send_at) {
          send_at += 10ms;
          is_open = net::send_all(fd->get(), std::to_string(next++) + "\n", 5000ms);
        }
        const auto left = std::chrono::ceil<milliseconds>(send_at - steady_clock::now());
        if (!is_open || !net::wait_ready(fd->get(), false, std::max(left, 0ms), nullptr)) continue;
        char bytes[4096];
        const auto n = ::recv(fd->get(), bytes, sizeof bytes, 0);
        if (n < 0 && errno == EAGAIN) continue;
        if (n <= 0) break;
        in.append(bytes, static_cast<std::size_t>(n));
        for (auto end = in.find('\n'); end != in.npos; end = in.find('\n')) {
          if (in.substr(0, end) == std::to_string(echoed_ + 1))
            ++echoed_;
          else
            ++disorders_;
          in.erase(0, end + 1);
        }
      }
    }
  }
  host_port to_;
  cancellation stop_;
  std::atomic<std::uint64_t> echoed_{0}, connections_{0}, disorders_{0};
  std::thread thread_;
};

inline json status_of(tunnel::tunnel_engine& engine) {
  auto answer = std::make_shared<std::promise<json>>();
  auto future = answer->get_future();
  engine.ask_status([answer](json s) { answer->set_value(std::move(s)); });
  if (future.wait_for(10s) != std::future_status::ready)
    throw std::runtime_error("the engine hangs");
  return future.get();
}

inline int count_of(const char* folder) {
  int out = 0;
  for ([[maybe_unused]] const auto& one : std::filesystem::directory_iterator{folder}) ++out;
  return out;
}

/// The tunnel to an echo server behind a real sshd.
struct tunnel_world {
  scratch dir;
  echo_server echo;
  real_sshd sshd;
  int listen = free_port();
  std::unique_ptr<tunnel::tunnel_engine> engine;

  explicit tunnel_world(const std::string& sshd_config = {},
                        std::vector<net::reverse_forward> reverse = {})
      : sshd{dir, echo.at(), sshd_config, reverse} {
    settings.reverse = std::move(reverse);
  }
  tunnel::tunnel_settings settings{};

  host_port at() const { return {"127.0.0.1", static_cast<std::uint16_t>(listen)}; }
  tunnel_world& start() {
    settings.to = ok(net::parse_ssh_target(sshd.url()));
    return start_as_set();
  }
  /// `settings.to` is the caller's.
  tunnel_world& start_as_set() {
    settings.listen = at();
    settings.target = settings.target.port == 0 ? echo.at() : settings.target;
    if (settings.key_file.empty()) settings.key_file = sshd.key_file();
    settings.known_hosts_file = sshd.known_hosts_file();
    engine.reset();  // Its port first.
    engine = std::make_unique<tunnel::tunnel_engine>(settings, 1);
    return *this;
  }
  json status() { return status_of(*engine); }
  void wait_for(const std::string& state, milliseconds deadline = 15s) {
    json last;
    eventually(
        deadline, [&] { return (last = status()).value("state", "") == state; },
        [&] { return last.dump() + "\n" + sshd.log(); });
  }
  unique_fd connect() { return ok(net::connect_tcp(at(), 5000ms)); }
};

inline std::string random_bytes(random_source& random, std::size_t size) {
  std::string out(size, '\0');
  for (auto& c : out) c = static_cast<char>(random.below(256));
  return out;
}

inline std::string hash(const std::string& bytes) { return digest_base64("sha256", bytes); }

/// Reads until the end of the stream, a reset or the deadline; nothing for the last two.
inline std::optional<std::string> read_to_end(int fd, milliseconds deadline = 20s) {
  std::string out;
  std::string bytes(64 << 10, '\0');
  const auto end = steady_clock::now() + deadline;
  while (steady_clock::now() < end) {
    if (!net::wait_ready(fd, false, 100ms)) continue;
    const auto n = ::recv(fd, bytes.data(), bytes.size(), 0);
    if (n == 0) return out;
    if (n < 0 && errno != EAGAIN) return {};
    if (n > 0) out.append(bytes, 0, static_cast<std::size_t>(n));
  }
  return {};
}

struct stream_report {
  std::uint64_t right = 0;  ///< Bytes that came back as they were sent, from the first on.
  bool is_wrong = false;    ///< Then came one that was never sent so.
  bool has_ended = false;   ///< By an end of file, after all of them.
};

/// Sends `bytes` of random ones and compares what comes back while it comes. `on_progress` is told
/// how many came back.
inline stream_report stream_through(
    int fd, std::uint64_t seed, std::uint64_t bytes,
    const std::function<void(std::uint64_t)>& on_progress = [](std::uint64_t) {}) {
  auto sender = std::async(std::launch::async, [=] {
    random_source random{seed};
    for (std::uint64_t sent = 0; sent < bytes; sent += 8192) {
      std::string piece;
      while (piece.size() < 8192) {
        const auto word = random.next();
        piece.append(reinterpret_cast<const char*>(&word), sizeof word);
      }
      if (!net::send_all(fd, piece, 60s)) return;
    }
    ::shutdown(fd, SHUT_WR);
  });
  stream_report out;
  random_source random{seed};
  std::string expected, got(64 << 10, '\0');
  const auto end = steady_clock::now() + 120s;
  while (steady_clock::now() < end && !out.is_wrong) {
    if (!net::wait_ready(fd, false, 100ms)) continue;
    const auto n = ::recv(fd, got.data(), got.size(), 0);
    if (n < 0 && errno == EAGAIN) continue;
    if (n <= 0) {
      out.has_ended = n == 0 && out.right == bytes;
      break;
    }
    while (expected.size() < static_cast<std::size_t>(n)) {
      const auto word = random.next();
      expected.append(reinterpret_cast<const char*>(&word), sizeof word);
    }
    out.is_wrong =
        expected.compare(0, static_cast<std::size_t>(n), got, 0, static_cast<std::size_t>(n)) != 0;
    if (!out.is_wrong) out.right += static_cast<std::uint64_t>(n);
    expected.erase(0, static_cast<std::size_t>(n));
    on_progress(out.right);
  }
  ::shutdown(fd, SHUT_RDWR);  // The sender may wait for room.
  return out;
}

/// One line there and back; false when the connection ended or nothing came in time.
inline bool is_echoed(int fd, const std::string& line, milliseconds deadline = 10s) {
  if (!net::send_all(fd, line, deadline)) return false;
  std::string in;
  const auto end = steady_clock::now() + deadline;
  while (in.size() < line.size() && steady_clock::now() < end) {
    if (!net::wait_ready(fd, false, 100ms)) continue;
    char bytes[4096];
    const auto n = ::recv(fd, bytes, sizeof bytes, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) return false;
    if (n > 0) in.append(bytes, static_cast<std::size_t>(n));
  }
  return in == line;
}

/// Whether a connection to `at` is reset, which may be before connect(2) has returned.
inline bool is_reset(const host_port& at, milliseconds deadline = 20s) {
  const auto fd = net::connect_tcp(at, deadline);
  if (!fd.has_value())
    return fd.error().message.find(std::strerror(ECONNRESET)) != std::string::npos;
  char byte = 0;
  return net::wait_ready(fd->get(), false, deadline) && ::recv(fd->get(), &byte, 1, 0) < 0 &&
         errno == ECONNRESET;
}

}  // namespace ntrace::test
