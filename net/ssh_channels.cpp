#include <fmt/core.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "config/gauges.hpp"
#include "net/ssh_session_impl.hpp"

// What a session that is up carries: opens and probes, channels, connections that the server
// brings.
namespace ntrace::net {
namespace {

constexpr std::size_t write_bytes_max = 32u << 10;      // RFC 4253, section 6.1: one packet
constexpr std::size_t turn_bytes_max = 64u << 10;       // of one channel, for fairness
constexpr std::size_t unread_total_bytes = 128u << 20;  // what stalled readers make us hold
constexpr std::size_t channels_max = 1024;              // with those that the server brings
constexpr milliseconds listen_retry_min{1000}, listen_retry_max{30'000};

/// What must be said on the server's side: sshd_config(5), and sshd(8) for authorized_keys.
std::string forward_advice(const std::string& target) {
  return fmt::format(
      "our line of its authorized_keys needs permitopen=\"{}\" (and port-forwarding after "
      "restrict), and its sshd_config must allow it for our user: AllowTcpForwarding yes or local, "
      "DisableForwarding no, PermitOpen any or {}; `sshd -T -C user=USER` shows what counts",
      target, target);
}

std::string listen_advice(const host_port& where) {
  const bool is_loopback =
      where.host.starts_with("127.") || where.host == "localhost" || where.host == "::1";
  return fmt::format(
      "our line of its authorized_keys needs permitlisten=\"{}\" (and port-forwarding after "
      "restrict), and its sshd_config must allow it for our user: AllowTcpForwarding yes or "
      "remote, DisableForwarding no, PermitListen any or {}{}; `sshd -T -C user=USER` shows what "
      "counts",
      where.text(), where.text(), is_loopback ? "" : ", GatewayPorts clientspecified");
}

}  // namespace

void ssh_session::impl::open(channel_id id, std::string line) {
  add_channel(id, ::ssh_channel_new(raw_.get())).line = std::move(line);
}

void ssh_session::impl::write(channel_id id, std::string data) {
  const auto at = channels_.find(id);
  if (at != channels_.end() && !data.empty()) at->second.out.push_back(std::move(data));
}

void ssh_session::impl::send_eof(channel_id id) {
  const auto at = channels_.find(id);
  if (at != channels_.end()) at->second.eof_wanted = true;
}

void ssh_session::impl::set_reading(channel_id id, bool on) {
  const auto at = channels_.find(id);
  if (at == channels_.end()) return;
  at->second.is_reading = on;
  if (on && at->second.unread > 0) has_leftover_ = true;
}

void ssh_session::impl::close(channel_id id) {
  const auto at = channels_.find(id);
  if (at == channels_.end()) return;
  at->second.close_wanted = true;
  if (!at->second.eof_wanted) at->second.out.clear();
}

void ssh_session::impl::probe() {
  is_probe_wanted_ = true;
  probe_end_ = UINT64_MAX;  // Until it is sent.
  probe_acknowledged_ = acknowledged_bytes();
}

bool ssh_session::impl::has_probe_advanced() {
  if (!is_probe_wanted_ && !probing_) return false;
  const auto before =
      std::exchange(probe_acknowledged_, std::min(acknowledged_bytes(), probe_end_));
  return probe_acknowledged_ > before;
}

retransmissions ssh_session::impl::look_at_retransmissions(time_point now) const {
  tcp_info info{};
  socklen_t size = sizeof info;
  ::getsockopt(socket_.get(), IPPROTO_TCP, TCP_INFO, &info, &size);
  retransmissions out{info.tcpi_total_retrans, {}};
  if (info.tcpi_unacked == 0) return out;
  // The time-out as it was last lengthened, counted from what was sent last.
  const auto timeout = std::chrono::microseconds{info.tcpi_rto};
  out.next = now + std::chrono::duration_cast<milliseconds>(timeout) -
             milliseconds{info.tcpi_last_data_sent};
  return out;
}

std::optional<error> ssh_session::impl::serve(time_point now) {
  if (auto e = serve_reads()) return e;
  if (auto e = serve_listeners(now)) return e;
  if (auto e = serve_probe()) return e;
  if (auto e = serve_opens(now)) return e;
  if (auto e = serve_writes()) return e;
  if (auto e = serve_ends()) return e;
  if (has_ended()) return failure();
  if (probing_ && probe_end_ == UINT64_MAX && !wants_write()) probe_end_ = sent_.out_bytes;
  return {};
}

ssh_session::impl::channel& ssh_session::impl::add_channel(channel_id id, ssh_channel_struct* raw) {
  auto& c = channels_[id];
  c.owner = this;
  c.id = id;
  c.raw = raw;
  // From within C code: an exception must end here, and what may throw is only a lack of memory.
  c.callbacks.userdata = &c;
  c.callbacks.channel_data_function = [](ssh_session_struct*, ssh_channel_struct*, void* data,
                                         uint32_t size, int is_stderr, void* of) noexcept {
    auto& to = *static_cast<channel*>(of);
    const std::string_view bytes{static_cast<const char*>(data), size};
    if (is_stderr == 0) return to.owner->on_data(to, bytes);
    if (!to.close_wanted) to.owner->events_.push_back(ssh_error_bytes{to.id, std::string{bytes}});
    return static_cast<int>(size);
  };
  c.callbacks.channel_eof_function = [](ssh_session_struct*, ssh_channel_struct*,
                                        void* of) noexcept {
    static_cast<channel*>(of)->has_eof = true;
  };
  c.callbacks.channel_close_function = [](ssh_session_struct*, ssh_channel_struct*,
                                          void* of) noexcept {
    static_cast<channel*>(of)->has_close = true;
  };
  c.callbacks.channel_exit_status_function = [](ssh_session_struct*, ssh_channel_struct*,
                                                int status, void* of) noexcept {
    auto& to = *static_cast<channel*>(of);
    to.owner->events_.push_back(ssh_exit{to.id, status, {}});
  };
  c.callbacks.channel_exit_signal_function = [](ssh_session_struct*, ssh_channel_struct*,
                                                const char* signal, int, const char*, const char*,
                                                void* of) noexcept {
    auto& to = *static_cast<channel*>(of);
    to.owner->events_.push_back(ssh_exit{to.id, {}, printable(signal ? signal : "")});
  };
  ssh_callbacks_init(&c.callbacks);
  ::ssh_set_channel_callbacks(raw, &c.callbacks);
  return c;
}

/// `data`: all that libssh holds for the channel. Gives how much of it is taken.
int ssh_session::impl::on_data(channel& c, std::string_view data) {
  unread_bytes_ -= std::exchange(c.unread, 0);
  if (!c.is_reading && !c.close_wanted) {
    c.unread = data.size();
    unread_bytes_ += c.unread;
    return 0;
  }
  if (!c.close_wanted) events_.push_back(ssh_bytes{c.id, std::string{data}});
  return static_cast<int>(data.size());
}

std::optional<error> ssh_session::impl::refused_open(const channel& c) {
  const std::string said = ::ssh_get_error(raw_.get());
  if (has_ended()) return failure();
  // RFC 4254, section 5.1: reason 1 is SSH_OPEN_ADMINISTRATIVELY_PROHIBITED.
  const bool is_forbidden = said.find("error (1)") != std::string::npos;
  const auto target = options_.target.text();
  std::string why;
  if (!c.line.empty())
    why = "the SSH server runs no command for us now (" + printable(said) + ")";
  else if (is_forbidden)
    why =
        fmt::format("the SSH server does not let us reach {}: {}", target, forward_advice(target));
  else
    why = fmt::format("nobody serves {} behind the SSH server ({})", target, printable(said));
  events_.push_back(ssh_open_refused{c.id, std::move(why), is_forbidden && c.line.empty()});
  return {};
}

/// Asked again it asks for the answer.
int ssh_session::impl::ask_for(channel& c) {
  if (c.line.empty())
    return ::ssh_channel_open_forward(c.raw, options_.target.host.c_str(), options_.target.port,
                                      "127.0.0.1", 0);
  if (!c.has_session) {
    if (const int code = ::ssh_channel_open_session(c.raw); code != SSH_OK) return code;
    c.has_session = true;
  }
  return ::ssh_channel_request_exec(c.raw, c.line.c_str());
}

std::optional<error> ssh_session::impl::serve_probe() {
  if (!probing_ && !is_probe_wanted_) return {};
  if (!probing_) {
    is_probe_wanted_ = false;
    probing_.reset(::ssh_channel_new(raw_.get()));
  } else if (!is_heard_) {
    return {};
  }
  const int code = ::ssh_channel_open_x11(probing_.get(), "127.0.0.1", 0);
  if (code == SSH_AGAIN) return {};
  if (has_ended()) return failure();
  probing_.reset();
  if (code == SSH_OK)
    return error{ec::ssh_failed, "the server opens channels of a type that only it may open", {}};
  events_.push_back(ssh_probe_answered{});
  return {};
}

std::optional<error> ssh_session::impl::serve_opens(time_point now) {
  for (auto at = channels_.begin(); at != channels_.end();) {
    auto& [id, c] = *at;
    const bool is_new = !c.is_open && !c.open_until;
    if (c.is_open || (!is_new && !is_heard_ && now < *c.open_until)) {
      ++at;
      continue;
    }
    if (is_new) c.open_until = now + options_.deadlines.open;
    const int code = ask_for(c);
    if (code == SSH_AGAIN && now >= *c.open_until)
      return error{ec::timed_out, "the server does not answer the opening of a channel", {}};
    if (code == SSH_OK) {
      c.is_open = true;
      events_.push_back(ssh_opened{id});
    } else if (code != SSH_AGAIN) {
      if (auto e = refused_open(c)) return e;
      ::ssh_remove_channel_callbacks(c.raw, &c.callbacks);
      ::ssh_channel_free(c.raw);
      at = channels_.erase(at);
      continue;
    }
    ++at;
  }
  return {};
}

std::optional<error> ssh_session::impl::serve_reads() {
  for (auto& [id, c] : channels_) {
    if (c.unread == 0 || (!c.is_reading && !c.close_wanted)) continue;
    const auto wanted = std::min(c.unread, scratch_.size());
    const auto n = ::ssh_channel_read_timeout(c.raw, scratch_.data(),
                                              static_cast<std::uint32_t>(wanted), 0, 0);
    if (n == SSH_ERROR) return failure();
    const auto size = std::min(static_cast<std::size_t>(std::max(n, 0)), c.unread);
    c.unread -= size;
    unread_bytes_ -= size;
    if (size > 0 && !c.close_wanted) events_.push_back(ssh_bytes{id, {scratch_.data(), size}});
    if (c.unread > 0) has_leftover_ = true;
  }
  return {};
}

std::optional<error> ssh_session::impl::serve_writes() {
  for (auto& [id, c] : channels_) {
    std::size_t taken = 0;
    // What libssh could not send waits in a buffer of its own; only when that is empty it is given
    // more, so that a probe waits behind little.
    while (c.is_open && !c.out.empty() && !c.has_close && taken < turn_bytes_max &&
           !wants_write()) {
      const auto& front = c.out.front();
      const auto wanted = std::min({front.size() - c.out_offset, write_bytes_max,
                                    static_cast<std::size_t>(::ssh_channel_window_size(c.raw))});
      if (wanted == 0) break;
      const int n = ::ssh_channel_write(c.raw, front.data() + c.out_offset,
                                        static_cast<std::uint32_t>(wanted));
      if (n == SSH_ERROR && has_ended()) return failure();
      if (n <= 0) break;  // Keys are being exchanged, or the server closed it.
      taken += static_cast<std::size_t>(n);
      c.out_offset += static_cast<std::size_t>(n);
      if (c.out_offset == front.size()) {
        c.out.pop_front();
        c.out_offset = 0;
      }
    }
    if (taken > 0) events_.push_back(ssh_took{id, taken});
    if (taken >= turn_bytes_max && !wants_write()) has_leftover_ = true;
  }
  return {};
}

std::optional<error> ssh_session::impl::serve_ends() {
  static auto& dropped = gauges::value("tunnel_unread_dropped");
  for (auto at = channels_.begin(); at != channels_.end();) {
    auto& [id, c] = *at;
    if (!c.is_open) {
      ++at;
      continue;
    }
    if (c.unread > 0 && unread_bytes_ > unread_total_bytes && !c.close_wanted) {
      // The windows of many stalled readers add up; somebody has to go.
      ++dropped;
      c.close_wanted = c.has_told_eof = true;
      c.out.clear();
      events_.push_back(ssh_closed{id});
      c.has_told_close = true;
    }
    if (c.eof_wanted && !c.eof_sent && c.out.empty() && !c.has_close) {
      if (::ssh_channel_send_eof(c.raw) == SSH_ERROR && has_ended()) return failure();
      c.eof_sent = true;
    }
    const bool is_read = c.unread == 0;
    if (c.has_eof && is_read && !std::exchange(c.has_told_eof, true))
      events_.push_back(ssh_end_of_file{id});
    if (c.close_wanted && !c.close_sent && !c.has_close &&
        (!c.eof_wanted || (c.out.empty() && c.eof_sent))) {
      if (::ssh_channel_close(c.raw) == SSH_ERROR && has_ended()) return failure();
      c.close_sent = true;
    }
    if (!c.has_close || !(is_read || c.close_wanted)) {
      ++at;
      continue;
    }
    if (!c.has_told_close) events_.push_back(ssh_closed{id});
    unread_bytes_ -= c.unread;
    ::ssh_remove_channel_callbacks(c.raw, &c.callbacks);
    ::ssh_channel_free(c.raw);
    at = channels_.erase(at);
  }
  return {};
}

std::optional<error> ssh_session::impl::serve_listeners(time_point now) {
  for (std::size_t i = 0; is_listening_wanted_ && i < listeners_.size(); ++i) {
    auto& l = listeners_[i];
    if (l.is_up || now < l.retry_at) continue;
    const auto& where = options_.reverse[i].listen;
    const int code =
        ::ssh_channel_listen_forward(raw_.get(), where.host.c_str(), where.port, nullptr);
    if (code == SSH_AGAIN) return {};  // One at a time.
    if (has_ended()) return failure();
    if (code == SSH_OK) {
      l.is_up = true;
      l.refusals = 0;
      events_.push_back(ssh_listening{i});
      continue;
    }
    // A session of ours that the server has not yet found dead may hold the port.
    l.retry_at =
        now + std::min(listen_retry_max, listen_retry_min * (1 << std::min(l.refusals, 5u)));
    ++l.refusals;
    events_.push_back(ssh_listen_refused{
        i, fmt::format("the server does not let us listen on {}: it is taken, or {}", where.text(),
                       listen_advice(where))});
  }
  return {};
}

/// A request of the server's: only a connection to a port that we asked it to listen on is taken;
/// 1 lets libssh refuse it.
int ssh_session::impl::on_message(ssh_message_struct* m) {
  if (::ssh_message_type(m) != SSH_REQUEST_CHANNEL_OPEN ||
      ::ssh_message_subtype(m) != SSH_CHANNEL_FORWARDED_TCPIP || channels_.size() >= channels_max)
    return 1;
  const int port = ::ssh_message_channel_request_open_destination_port(m);
  for (std::size_t i = 0; i < listeners_.size(); ++i) {
    if (!listeners_[i].is_up || options_.reverse[i].listen.port != port) continue;
    auto* opened = ::ssh_message_channel_request_open_reply_accept(m);
    if (!opened) return 1;
    const auto id = options_.next_id();
    add_channel(id, opened).is_open = true;
    events_.push_back(ssh_accepted{id, i});
    return 0;
  }
  return 1;
}

}  // namespace ntrace::net
