#include "net/egress_proxy.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "config/gauges.hpp"
#include "net/name_lookup.hpp"
#include "net/socket.hpp"

namespace ntrace::net {
namespace {
constexpr milliseconds accept_pause{100};
}

struct egress_proxy::shared {
  unique_fd listener;
  egress_options options;
  std::function<void(const egress_report&)> report;
  cancellation stop;
  std::atomic<std::uint64_t> bytes{0};
  std::mutex guard;
  std::condition_variable one_ended;
  std::size_t connections = 0;
  name_lookup names;
  std::thread acceptor;

  void accept_all();
  bool wait_for_room();
  void serve(unique_fd client);
  result<std::string> read_head(int client, std::string& rest);
  result<unique_fd> dial(const proxy_request& request);
  result<void> check_hello(int client, const proxy_request& request, std::string& early);
  result<void> relay(int client, int upstream, std::uint64_t& moved);
  void answer(int client, std::string_view status, std::string_view words);
};

egress_proxy::egress_proxy(unique_fd listener, egress_options options,
                           std::function<void(const egress_report&)> report)
    : shared_{std::make_unique<shared>()} {
  shared_->listener = std::move(listener);
  shared_->options = std::move(options);
  shared_->report = std::move(report);
  shared_->acceptor = std::thread{[s = shared_.get()] { s->accept_all(); }};
}

egress_proxy::~egress_proxy() {
  {
    const std::lock_guard lock{shared_->guard};
    shared_->stop.raise();
  }
  shared_->one_ended.notify_all();
  shared_->acceptor.join();
  shared_->listener.reset();
  std::unique_lock lock{shared_->guard};
  shared_->one_ended.wait(lock, [this] { return shared_->connections == 0; });
}

/// False when it is to stop.
bool egress_proxy::shared::wait_for_room() {
  std::unique_lock lock{guard};
  if (connections >= options.connections_max) ++gauges::value("egress_waits_full");
  one_ended.wait(lock,
                 [this] { return connections < options.connections_max || stop.is_raised(); });
  return !stop.is_raised();
}

void egress_proxy::shared::accept_all() {
  while (wait_for_room()) {
    if (!wait_ready(listener.get(), false, milliseconds{60'000}, &stop)) continue;
    unique_fd client{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (!client && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
      // It is still there to be accepted: without a pause this would be a hot loop.
      ++gauges::value("egress_accept_failed");
      pollfd stopped{stop.fd(), POLLIN, 0};
      ::poll(&stopped, 1, static_cast<int>(accept_pause.count()));
    }
    if (!client) continue;
    {
      const std::lock_guard lock{guard};
      ++connections;
    }
    std::thread{[this, fd = client.release()] {
      serve(unique_fd{fd});
      const std::lock_guard lock{guard};
      --connections;
      one_ended.notify_all();
    }}.detach();  // Counted: the destructor waits until none is left.
  }
}

void egress_proxy::shared::answer(int client, std::string_view status, std::string_view words) {
  std::string text{"HTTP/1.1 "};
  text.append(status).append(
      "\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: ");
  text.append(std::to_string(words.size() + 1)).append("\r\n\r\n").append(words).append("\n");
  // A client that does not take its refusal only loses the explanation.
  [[maybe_unused]] const bool sent = send_all(client, text, milliseconds{1000});
}

result<std::string> egress_proxy::shared::read_head(int client, std::string& rest) {
  constexpr std::size_t head_bytes_max = 16384;
  std::string head;
  const auto end = steady_clock::now() + options.head_deadline;
  char block[4096];
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(end - steady_clock::now());
    if (left.count() <= 0 || !wait_ready(client, false, left, &stop))
      return head.empty() ? fail(ec::connection_lost, "no request in time")
                          : fail(ec::timed_out, "no whole request head in time");
    const auto n = ::recv(client, block, sizeof block, 0);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n <= 0) return fail(ec::connection_lost, "closed before a request");
    head.append(block, static_cast<std::size_t>(n));
    if (const auto at = head.find("\r\n\r\n"); at != std::string::npos) {
      rest = head.substr(at + 4);
      head.resize(at + 4);
      return head;
    }
    if (head.size() > head_bytes_max) return fail(ec::bad_request, "request head above 16 KiB");
  }
}

result<unique_fd> egress_proxy::shared::dial(const proxy_request& request) {
  const auto name = request.host + ":" + std::to_string(request.port);
  const auto* entry = find_allowed(options.allow, request.host, request.port);
  if (!entry)
    return fail(ec::bad_argument, "refused " + name + "; to allow it add \"" + name +
                                      "\" to the setting network_allow");
  const auto addresses = names.find(request.host, request.port, stop);
  if (!addresses) return fail(addresses.error());
  // Each address is checked and then connected to as it is: no second look-up can differ.
  for (const auto& at : *addresses)
    if (!entry->allow_private && is_private_address(at.get()))
      return fail(ec::bad_argument, "refused " + name + ": it resolves to a private address; to " +
                                        "allow it add \"" + name + "\" to network_allow_private");
  for (const auto& at : *addresses) {
    unique_fd fd{::socket(at.get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!fd) continue;
    if (::connect(fd.get(), at.get(), at.size) == 0) return fd;
    if (errno != EINPROGRESS || !wait_ready(fd.get(), true, options.connect_deadline, &stop))
      continue;
    int code = 0;
    socklen_t size = sizeof code;
    ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &code, &size);
    if (code == 0) return fd;
  }
  return fail(ec::unreachable, "cannot connect to " + name);
}

result<void> egress_proxy::shared::check_hello(int client, const proxy_request& request,
                                               std::string& early) {
  const auto end = steady_clock::now() + options.head_deadline;
  char block[16384];
  for (;;) {
    bool complete = false;
    const auto name = client_hello_name(early, complete);
    if (!name) return fail(name.error());
    if (complete) {
      if (*name != request.host)
        return fail(ec::bad_request, "TLS server name \"" + *name + "\" is not " + request.host);
      return {};
    }
    const auto left = std::chrono::ceil<milliseconds>(end - steady_clock::now());
    if (left.count() <= 0 || !wait_ready(client, false, left, &stop))
      return fail(ec::timed_out, "no TLS ClientHello in time");
    const auto n = ::recv(client, block, sizeof block, 0);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n <= 0) return fail(ec::connection_lost, "closed before TLS began");
    early.append(block, static_cast<std::size_t>(n));
  }
}

result<void> egress_proxy::shared::relay(int client, int upstream, std::uint64_t& moved) {
  std::array<int, 2> from{client, upstream};
  std::array<bool, 2> open{true, true};
  char block[65536];
  while (open[0] || open[1]) {
    std::array<pollfd, 3> fds{{{open[0] ? from[0] : -1, POLLIN, 0},
                               {open[1] ? from[1] : -1, POLLIN, 0},
                               {stop.fd(), POLLIN, 0}}};
    const int n = ::poll(fds.data(), fds.size(), static_cast<int>(options.idle_deadline.count()));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail(ec::timed_out, "idle");
    if (fds[2].revents != 0) return fail(ec::cancelled, "the install step ended");
    for (std::size_t i = 0; i < 2; ++i) {
      if (fds[i].revents == 0) continue;
      const auto got = ::recv(from[i], block, sizeof block, 0);
      if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (got <= 0) {
        open[i] = false;
        ::shutdown(from[1 - i], SHUT_WR);
        continue;
      }
      moved += static_cast<std::uint64_t>(got);
      if (bytes.fetch_add(static_cast<std::uint64_t>(got)) > options.bytes_max)
        return fail(ec::source_limit, "the attempt's network_bytes_max is used up");
      if (!send_all(from[1 - i], {block, static_cast<std::size_t>(got)}, options.idle_deadline))
        return fail(ec::connection_lost, "the other side does not read");
    }
  }
  return {};
}

void egress_proxy::shared::serve(unique_fd client) {
  egress_report told;
  std::string early;
  const auto done = [&](const error& e) {
    told.reason = e.message;
    ++gauges::value(told.allowed ? "egress_broken" : "egress_refused");
    report(told);
  };
  const auto head = read_head(client.get(), early);
  if (!head) {
    // A connection without a request is nothing to report.
    if (head.error().code == ec::connection_lost) return;
    const bool is_late = head.error().code == ec::timed_out;
    answer(client.get(), is_late ? "408 Request Timeout" : "431 Request Header Fields Too Large",
           head.error().message);
    return done(head.error());
  }
  const auto request = parse_proxy_head(*head);
  if (!request) {
    answer(client.get(), "400 Bad Request", request.error().message);
    return done(request.error());
  }
  told.host = request->host;
  told.port = request->port;
  auto upstream = dial(*request);
  if (!upstream) {
    const bool refused = upstream.error().code == ec::bad_argument;
    answer(client.get(), refused ? "403 Forbidden" : "502 Bad Gateway", upstream.error().message);
    told.allowed = !refused;
    return done(upstream.error());
  }
  told.allowed = true;
  if (request->is_connect) {
    if (!send_all(client.get(), "HTTP/1.1 200 Connection established\r\n\r\n",
                  options.idle_deadline))
      return done({ec::connection_lost, "the client went away", {}});
    if (const auto hello = check_hello(client.get(), *request, early); !hello) {
      told.allowed = false;
      return done(hello.error());
    }
  }
  const auto first = request->is_connect ? early : request->forward_head + early;
  if (!send_all(upstream->get(), first, options.idle_deadline))
    return done({ec::connection_lost, "the registry closed the connection", {}});
  told.bytes = first.size();
  bytes += first.size();
  const auto ended = relay(client.get(), upstream->get(), told.bytes);
  if (!ended && ended.error().code != ec::timed_out && ended.error().code != ec::cancelled)
    return done(ended.error());
  ++gauges::value("egress_allowed");
  report(told);
}

}  // namespace ntrace::net
