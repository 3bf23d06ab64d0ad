#include "net/egress_relay.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "net/socket.hpp"

namespace ntrace::net {
namespace {

constexpr std::size_t block_bytes = 65536;
constexpr std::size_t answer_head_bytes_max = 65536;
constexpr milliseconds gentle_close_max{2000};
constexpr std::size_t gentle_close_bytes_max = 1u << 20;

struct ready_sides {
  bool client = false, upstream = false;
};

/// Waits until a side that is read has something, or the client is gone.
result<ready_sides> wait_for(int client, bool reads_client, int upstream, bool reads_upstream,
                             const egress_relay::bounds& b) {
  for (;;) {
    const short from_client = reads_client ? POLLIN : 0;
    std::array<pollfd, 3> fds{{{client, from_client, 0},
                               {reads_upstream ? upstream : -1, POLLIN, 0},
                               {b.stop.fd(), POLLIN, 0}}};
    const int n = ::poll(fds.data(), fds.size(), static_cast<int>(b.idle_deadline.count()));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail(ec::timed_out, "idle");
    if (fds[2].revents != 0) return fail(ec::cancelled, "the install step ended");
    if (!reads_client && fds[0].revents != 0 && fds[1].revents == 0)
      return fail(ec::connection_lost, "the client went away");
    return ready_sides{reads_client && fds[0].revents != 0, fds[1].revents != 0};
  }
}

}  // namespace

result<void> egress_relay::lose_upstream(std::string why) {
  has_lost_upstream_ = true;
  return fail(ec::connection_lost, std::move(why));
}

result<void> egress_relay::count(std::size_t bytes) {
  moved_ += bytes;
  if (bounds_.bytes.fetch_add(bytes) > bounds_.bytes_max)
    return fail(ec::source_limit, "the attempt's network_bytes_max is used up");
  return {};
}

result<void> egress_relay::to_upstream(std::string_view bytes) {
  if (const auto within = count(bytes.size()); !within) return within;
  if (!send_all(upstream_, bytes, bounds_.idle_deadline))
    return lose_upstream("the registry closed the connection");
  return {};
}

result<void> egress_relay::to_client(std::string_view bytes) {
  if (const auto within = count(bytes.size()); !within) return within;
  if (!send_all(client_, bytes, bounds_.idle_deadline))
    return fail(ec::connection_lost, "the client does not read");
  return {};
}

result<void> egress_relay::both_ways() {
  bool client_open = true, upstream_open = true;
  char block[block_bytes];
  while (client_open || upstream_open) {
    // A side that has closed is not polled: it would be ready for ever.
    const auto ready =
        wait_for(client_open ? client_ : -1, client_open, upstream_, upstream_open, bounds_);
    if (!ready) return fail(ready.error());
    for (const bool is_client : {true, false}) {
      if (!(is_client ? ready->client : ready->upstream)) continue;
      const auto got = ::recv(is_client ? client_ : upstream_, block, sizeof block, 0);
      if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (got < 0 && !is_client && client_open)
        return lose_upstream("the connection to the registry broke");
      if (got <= 0) {
        (is_client ? client_open : upstream_open) = false;
        ::shutdown(is_client ? upstream_ : client_, SHUT_WR);
        continue;
      }
      const std::string_view bytes{block, static_cast<std::size_t>(got)};
      const auto sent = is_client ? to_upstream(bytes) : to_client(bytes);
      if (!sent && !upstream_open) has_lost_upstream_ = false;  // It had said that it ends.
      if (!sent) return sent;
    }
  }
  return {};
}

result<void> egress_relay::take_request(std::string_view bytes, http_body& body) {
  const auto own = body.take(bytes);
  if (!own) return fail(own.error());
  return *own == 0 ? result<void>{} : to_upstream(bytes.substr(0, *own));
}

result<void> egress_relay::take_head(const std::string& method) {
  while (!has_answered_) {
    const auto end = head_.find("\r\n\r\n");
    if (end == std::string::npos)
      return head_.size() <= answer_head_bytes_max
                 ? result<void>{}
                 : fail(ec::bad_request, "the registry's answer has a head above 64 KiB");
    auto answer = parse_proxy_answer(std::string_view{head_}.substr(0, end + 4), method);
    if (!answer) return fail(ec::bad_request, "the registry's answer: " + answer.error().message);
    head_.erase(0, end + 4);
    if (answer->is_interim()) continue;
    answer_ = std::move(*answer);
    has_answered_ = true;
    if (const auto sent = to_client(answer_.forward_head); !sent) return sent;
  }
  return {};
}

result<void> egress_relay::take_answer(std::string_view bytes, const std::string& method) {
  std::string behind_head;
  if (!has_answered_) {
    head_.append(bytes);
    if (const auto taken = take_head(method); !taken) return taken;
    if (!has_answered_) return {};
    behind_head = std::exchange(head_, {});
    bytes = behind_head;
  }
  const auto own = answer_.body.take(bytes);
  if (!own) return fail(ec::bad_request, "the registry's answer: " + own.error().message);
  return *own == 0 ? result<void>{} : to_client(bytes.substr(0, *own));
}

result<void> egress_relay::at_upstreams_end() {
  if (has_answered_ && answer_.body.ends_with_connection()) return {};
  return lose_upstream(has_answered_ ? "the registry's answer was cut short"
                                     : "the registry closed without an answer");
}

result<void> egress_relay::exchange(const proxy_request& request, std::string_view early) {
  auto body = request.body;
  if (const auto sent = to_upstream(request.forward_head); !sent) return sent;
  if (const auto sent = take_request(early, body); !sent) return sent;
  char block[block_bytes];
  while (!is_answered()) {
    const auto ready = wait_for(client_, !body.is_done(), upstream_, true, bounds_);
    if (!ready) return fail(ready.error());
    for (const bool is_client : {true, false}) {
      if (!(is_client ? ready->client : ready->upstream)) continue;
      const auto got = ::recv(is_client ? client_ : upstream_, block, sizeof block, 0);
      if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (got <= 0 && is_client)
        return fail(ec::connection_lost, "the client closed within its request");
      if (got < 0) return lose_upstream("the connection to the registry broke");
      if (got == 0) return at_upstreams_end();
      const std::string_view bytes{block, static_cast<std::size_t>(got)};
      const auto taken = is_client ? take_request(bytes, body) : take_answer(bytes, request.method);
      if (!taken) return taken;
    }
  }
  return {};
}

void close_gently(int client, const cancellation& stop) {
  ::shutdown(client, SHUT_WR);
  const auto end = steady_clock::now() + gentle_close_max;
  char block[4096];
  for (std::size_t read = 0; read < gentle_close_bytes_max;) {
    const auto left = std::chrono::ceil<milliseconds>(end - steady_clock::now());
    if (left.count() <= 0 || !wait_ready(client, false, left, &stop)) return;
    const auto got = ::recv(client, block, sizeof block, 0);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) return;
    read += static_cast<std::size_t>(got);
  }
}

}  // namespace ntrace::net
