#include "net/egress_proxy.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "config/gauges.hpp"
#include "net/client_hello.hpp"
#include "net/egress_relay.hpp"
#include "net/name_lookup.hpp"
#include "net/reachability.hpp"
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
  void serve_request(int client);
  std::optional<proxy_request> take_request(int client, std::string& early, egress_report& told);
  result<void> tunnel(int client, const proxy_request& request, egress_relay& relay,
                      egress_report& told);
  result<void> exchange(int client, const proxy_request& request, const std::string& early,
                        egress_relay& relay);
  void finish(egress_report& told, const error& why);
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
    // Other readers take it for a line's end, and an end of the head would be waited for in vain.
    for (auto lf = head.find('\n'); lf != std::string::npos; lf = head.find('\n', lf + 1)) {
      if (lf == 0 || head[lf - 1] != '\r') return fail(ec::bad_request, "a lone LF in the head");
      if (head.compare(lf + 1, 2, "\r\n") == 0) break;
    }
    if (const auto at = head.find("\r\n\r\n"); at != std::string::npos) {
      rest = head.substr(at + 4);
      head.resize(at + 4);
    }
    const bool is_whole = head.ends_with("\r\n\r\n");
    if (head.size() > head_bytes_max) return fail(ec::line_too_long, "request head above 16 KiB");
    if (is_whole) return head;
  }
}

result<unique_fd> egress_proxy::shared::dial(const proxy_request& request) {
  const auto name = fmt::format("{}:{}", request.host, request.port);
  const auto* entry = find_allowed(options.allow, request.host, request.port);
  if (!entry)
    return fail(
        ec::bad_argument,
        fmt::format("refused {}; to allow it add \"{}\" to the setting network_allow", name, name));
  const auto addresses = names.find(request.host, request.port, stop);
  if (!addresses) return fail(addresses.error());
  // Each address is checked and then connected to as it is: no second look-up can differ.
  for (const auto& at : *addresses)
    if (!entry->allow_private && is_private_address(at.get()))
      return fail(ec::bad_argument, fmt::format("refused {}: it resolves to a private address; to "
                                                "allow it add \"{}\" to network_allow_private",
                                                name, name));
  return dial_one({request.host, request.port}, *addresses, options.connect_deadline, &stop);
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

void egress_proxy::shared::serve(unique_fd client) {
  serve_request(client.get());
  close_gently(client.get(), stop);
}

/// The request at the begin of the connection, and what came behind it; nothing when it was refused
/// or never came.
std::optional<proxy_request> egress_proxy::shared::take_request(int client, std::string& early,
                                                                egress_report& told) {
  const auto refuse = [&](std::string_view status, const error& why) {
    answer(client, status, why.message);
    finish(told, why);
    return std::optional<proxy_request>{};
  };
  const auto head = read_head(client, early);
  if (!head) {
    switch (head.error().code) {
      case ec::connection_lost:  // A connection without a request is nothing to report.
        return {};
      case ec::timed_out:
        return refuse("408 Request Timeout", head.error());
      case ec::line_too_long:
        return refuse("431 Request Header Fields Too Large", head.error());
      default:
        return refuse("400 Bad Request", head.error());
    }
  }
  auto request = parse_proxy_head(*head);
  if (!request) return refuse("400 Bad Request", request.error());
  told.host = request->host;
  told.port = request->port;
  if (request->is_connect && !early.empty())
    return refuse("400 Bad Request",
                  {ec::bad_request, "bytes behind CONNECT before it was answered", {}});
  return std::move(*request);
}

void egress_proxy::shared::finish(egress_report& told, const error& why) {
  told.reason = why.message;
  ++gauges::value(told.allowed ? "egress_broken" : "egress_refused");
  report(told);
}

result<void> egress_proxy::shared::tunnel(int client, const proxy_request& request,
                                          egress_relay& relay, egress_report& told) {
  if (!send_all(client, "HTTP/1.1 200 Connection established\r\n\r\n", options.idle_deadline))
    return fail(ec::connection_lost, "the client went away");
  std::string early;
  if (const auto hello = check_hello(client, request, early); !hello) {
    told.allowed = false;
    return hello;
  }
  const auto sent = relay.to_upstream(early);
  return sent ? relay.both_ways() : sent;
}

result<void> egress_proxy::shared::exchange(int client, const proxy_request& request,
                                            const std::string& early, egress_relay& relay) {
  if (request.wants_continue && early.empty() && !request.body.is_done() &&
      !send_all(client, "HTTP/1.1 100 Continue\r\n\r\n", options.idle_deadline))
    return fail(ec::connection_lost, "the client went away");
  const auto done = relay.exchange(request, early);
  if (!done && !relay.has_answered()) answer(client, "502 Bad Gateway", done.error().message);
  return done;
}

void egress_proxy::shared::serve_request(int client) {
  egress_report told;
  std::string early;
  const auto request = take_request(client, early, told);
  if (!request) return;
  auto upstream = dial(*request);
  const bool refused = !upstream && upstream.error().code == ec::bad_argument;
  const auto tell_reach = [&](const error* failed) {
    if (options.on_reach && !refused && !stop.is_raised())
      options.on_reach({request->host, request->port}, failed);
  };
  tell_reach(upstream ? nullptr : &upstream.error());
  if (!upstream) {
    answer(client, refused ? "403 Forbidden" : "502 Bad Gateway", upstream.error().message);
    told.allowed = !refused;
    return finish(told, upstream.error());
  }
  told.allowed = true;
  egress_relay relay{
      client, upstream->get(), {bytes, options.bytes_max, options.idle_deadline, stop}};
  const auto done = request->is_connect ? tunnel(client, *request, relay, told)
                                        : exchange(client, *request, early, relay);
  told.bytes = relay.moved();
  if (relay.has_lost_upstream()) {
    const auto lost =
        to_error({request->host, outage_cause::connection_lost, done.error().message});
    tell_reach(&lost);
  }
  const bool is_quiet_end =
      request->is_connect && told.allowed && !done &&
      (done.error().code == ec::timed_out || done.error().code == ec::cancelled);
  if (!done && !is_quiet_end) return finish(told, done.error());
  ++gauges::value("egress_allowed");
  report(told);
}

}  // namespace ntrace::net
