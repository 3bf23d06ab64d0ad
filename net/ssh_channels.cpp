#include <algorithm>
#include <utility>

#include "net/ssh_session.hpp"

// What a session that is up carries: opens and probes, channels, connections that the server
// brings.
namespace ntrace::net {
namespace {

constexpr std::string_view probe_type = "probe@ntrace";
constexpr std::string_view channel_type = "direct-tcpip";  // RFC 4254, section 7.2
constexpr std::size_t write_bytes_max = 32'700;            // libssh2 1.10 cuts longer ones
constexpr std::size_t turn_bytes_max = 64u << 10;          // of one channel, for fairness
constexpr unsigned packet_bytes = 32'768;                  // RFC 4253, section 6.1
constexpr std::size_t window_max = 2u << 20, window_min = 64u << 10;
constexpr std::size_t windows_total_bytes = 128u << 20;  // what stalled readers make us hold
constexpr int accept_queue = 16;
constexpr milliseconds listen_retry_min{1000}, listen_retry_max{30'000};

bool is_asking_again(long code) { return code == LIBSSH2_ERROR_EAGAIN; }

/// Codes that concern one channel; any other ends the session.
bool is_of_channel(long code) {
  return code == LIBSSH2_ERROR_CHANNEL_CLOSED || code == LIBSSH2_ERROR_CHANNEL_EOF_SENT ||
         code == LIBSSH2_ERROR_CHANNEL_WINDOW_EXCEEDED ||
         code == LIBSSH2_ERROR_CHANNEL_PACKET_EXCEEDED || code == LIBSSH2_ERROR_CHANNEL_WINDOW_FULL;
}

}  // namespace

void ssh_session::write(channel_id id, std::string data) {
  const auto at = channels_.find(id);
  if (at != channels_.end() && !data.empty()) at->second.out.push_back(std::move(data));
}

void ssh_session::send_eof(channel_id id) {
  const auto at = channels_.find(id);
  if (at != channels_.end()) at->second.eof_wanted = true;
}

void ssh_session::set_reading(channel_id id, bool on) {
  const auto at = channels_.find(id);
  if (at == channels_.end()) return;
  at->second.is_reading = on;
  if (on) has_leftover_ = has_unread_ = true;
}

void ssh_session::close(channel_id id) {
  const auto at = channels_.find(id);
  if (at == channels_.end()) return;
  at->second.close_wanted = true;
  if (!at->second.eof_wanted) at->second.out.clear();
}

void ssh_session::probe() {
  is_probe_wanted_ = true;
  probe_end_ = UINT64_MAX;  // Until it is written.
  probe_acknowledged_ = transport_.acknowledged_bytes();
}

bool ssh_session::has_probe_advanced() {
  if (!is_probe_wanted_ && !(slot_ && slot_->is_probe)) return false;
  const auto before =
      std::exchange(probe_acknowledged_, std::min(transport_.acknowledged_bytes(), probe_end_));
  return probe_acknowledged_ > before;
}

/// Large while few channels are open; the sum has a bound, because a reader that stalls makes us
/// hold its whole window.
std::size_t ssh_session::next_window() const {
  const auto left = windows_total_bytes - std::min(windows_, windows_total_bytes);
  return std::clamp(left / 8, window_min, window_max);
}

std::optional<error> ssh_session::serve(time_point now) {
  has_leftover_ = is_full_ = false;
  if (auto e = serve_reads()) return e;
  if (auto e = serve_listeners(now)) return e;
  if (auto e = serve_open(now)) return e;
  if (auto e = serve_writes()) return e;
  return serve_ends();
}

std::optional<error> ssh_session::on_open_done(LIBSSH2_CHANNEL* opened) {
  const auto done = *std::exchange(slot_, std::nullopt);
  // Whatever the answer is, the server gave one: so it answers a probe that waited for the slot.
  if (done.is_probe || std::exchange(is_probe_wanted_, false))
    events_.push_back(ssh_probe_answered{});
  if (done.is_probe) {
    if (!opened) return {};
    return error{ec::ssh_failed, "the server opens channels of a type that does not exist", {}};
  }
  if (opened) {
    channels_.emplace(done.id, channel{opened, done.window});
    windows_ += done.window;
    has_leftover_ = has_unread_ = true;  // Its first bytes may have come with the answer.
    events_.push_back(ssh_opened{done.id});
    return {};
  }
  char* text = nullptr;
  ::libssh2_session_last_error(raw_.get(), &text, nullptr, 0);
  const std::string said = text ? text : "";
  const bool is_forbidden = said.find("prohibited") != std::string::npos;
  const auto target = options_.target.text();
  events_.push_back(ssh_open_refused{
      done.id,
      is_forbidden ? "the SSH server does not let us reach " + target +
                         ": our line of its authorized_keys needs permitopen=\"" + target + "\""
                   : "nobody serves " + target + " behind the SSH server (" + printable(said) + ")",
      is_forbidden});
  return {};
}

std::optional<error> ssh_session::serve_open(time_point now) {
  while (transport_.can_take()) {
    if (!slot_ && is_probe_wanted_) {
      is_probe_wanted_ = false;
      slot_ = slot{true, 0, now + options_.deadlines.open, 0};
    } else if (!slot_ && !to_open_.empty()) {
      slot_ = slot{false, to_open_.front(), now + options_.deadlines.open, next_window()};
      to_open_.pop_front();
    }
    if (!slot_) return {};
    std::string payload;
    if (!slot_->is_probe) {
      put_string(payload, options_.target.host);
      put_number(payload, options_.target.port);
      put_string(payload, "127.0.0.1");
      put_number(payload, 0);
    }
    const auto type = slot_->is_probe ? probe_type : channel_type;
    auto* opened = ::libssh2_channel_open_ex(
        raw_.get(), type.data(), static_cast<unsigned>(type.size()),
        static_cast<unsigned>(std::max(slot_->window, window_min)), packet_bytes, payload.data(),
        static_cast<unsigned>(payload.size()));
    const int code = opened ? 0 : ::libssh2_session_last_errno(raw_.get());
    if (code == LIBSSH2_ERROR_EAGAIN) {
      if (slot_->is_probe && probe_end_ == UINT64_MAX) probe_end_ = transport_.taken_bytes();
      // An open cannot be taken back, and libssh2 has one place for all of them. A probe that stays
      // out is for the tunnel to judge, by its own deadline.
      if (!slot_->is_probe && now >= slot_->until)
        return error{ec::timed_out, "the server does not answer the opening of a channel", {}};
      if (slot_->is_probe) slot_->until = time_point::max();
      return {};
    }
    if (code != 0 && code != LIBSSH2_ERROR_CHANNEL_FAILURE) return failure(code);
    if (auto e = on_open_done(opened)) return e;
  }
  return {};
}

std::optional<error> ssh_session::serve_reads() {
  // Any call of libssh2 takes what came for all channels, so that they are all looked at then.
  if (!std::exchange(has_unread_, false)) return {};
  for (auto& [id, c] : channels_) {
    if (!c.is_reading || c.has_ended) continue;
    const auto n = ::libssh2_channel_read(c.raw, scratch_.data(), scratch_.size());
    if (n > 0) {
      if (static_cast<std::size_t>(n) == scratch_.size()) has_leftover_ = has_unread_ = true;
      events_.push_back(ssh_bytes{id, {scratch_.data(), static_cast<std::size_t>(n)}});
    } else if (n == 0 || is_asking_again(n)) {
      if (::libssh2_channel_eof(c.raw) == 1) {
        c.has_ended = true;
        events_.push_back(ssh_end_of_file{id});
      }
    } else if (is_of_channel(n)) {
      c.has_ended = c.has_closed = c.close_wanted = true;
      events_.push_back(ssh_closed{id});
    } else {
      return failure(static_cast<int>(n));
    }
  }
  return {};
}

std::optional<error> ssh_session::serve_writes() {
  for (auto& [id, c] : channels_) {
    std::size_t taken = 0;
    long n = 0;
    while (!c.out.empty() && transport_.can_take() && taken < turn_bytes_max) {
      const auto& front = c.out.front();
      // Asked again it must be the same bytes; they stay at the front until they are taken.
      n = ::libssh2_channel_write(c.raw, front.data() + c.out_offset,
                                  std::min(front.size() - c.out_offset, write_bytes_max));
      if (n <= 0) break;
      taken += static_cast<std::size_t>(n);
      c.out_offset += static_cast<std::size_t>(n);
      if (c.out_offset == front.size()) {
        c.out.pop_front();
        c.out_offset = 0;
      }
    }
    if (taken > 0) events_.push_back(ssh_took{id, taken});
    if (!c.out.empty() && !transport_.can_take())
      is_full_ = true;
    else if (!c.out.empty() && taken >= turn_bytes_max)
      has_leftover_ = true;
    if (n < 0 && is_of_channel(n)) {
      c.out.clear();
      if (!std::exchange(c.has_closed, true)) events_.push_back(ssh_closed{id});
      c.close_wanted = true;
    } else if (n < 0 && !is_asking_again(n)) {
      return failure(static_cast<int>(n));
    }
  }
  return {};
}

std::optional<error> ssh_session::serve_ends() {
  for (auto at = channels_.begin(); at != channels_.end();) {
    auto& [id, c] = *at;
    if (c.eof_wanted && !c.eof_sent && c.out.empty() && !c.has_closed) {
      const int code = ::libssh2_channel_send_eof(c.raw);
      if (code == 0)
        c.eof_sent = true;
      else if (!is_asking_again(code) && !is_of_channel(code))
        return failure(code);
    }
    // Asked only after the end of file: before it libssh2 1.10 answers that the call is wrong.
    if (c.has_ended && !c.has_closed && ::libssh2_channel_wait_closed(c.raw) == 0) {
      c.has_closed = true;
      c.close_wanted = true;
      c.out.clear();
      events_.push_back(ssh_closed{id});
    }
    const bool may_close =
        c.close_wanted && (c.has_closed || !c.eof_wanted || (c.out.empty() && c.eof_sent));
    if (!may_close || (!c.has_closed && is_asking_again(::libssh2_channel_close(c.raw))) ||
        is_asking_again(::libssh2_channel_free(c.raw))) {
      ++at;
      continue;
    }
    if (!c.has_closed) events_.push_back(ssh_closed{id});
    windows_ -= c.window;
    at = channels_.erase(at);
  }
  return {};
}

std::optional<error> ssh_session::serve_listeners(time_point now) {
  for (std::size_t i = 0; is_listening_wanted_ && i < listeners_.size(); ++i) {
    auto& l = listeners_[i];
    const auto& where = options_.reverse[i].listen;
    if (!l.raw) {
      if (now < l.retry_at) continue;
      l.raw = ::libssh2_channel_forward_listen_ex(raw_.get(), where.host.c_str(), where.port,
                                                  nullptr, accept_queue);
      const int code = l.raw ? 0 : ::libssh2_session_last_errno(raw_.get());
      if (is_asking_again(code)) return {};  // One at a time.
      if (code == LIBSSH2_ERROR_REQUEST_DENIED) {
        // A session of ours that the server has not yet found dead may hold the port.
        l.retry_at =
            now + std::min(listen_retry_max, listen_retry_min * (1 << std::min(l.refusals, 5u)));
        ++l.refusals;
        events_.push_back(ssh_listen_refused{
            i, "the server does not let us listen on " + where.text() +
                   ": it is taken, or our line of its authorized_keys needs permitlisten=\"" +
                   where.text() + "\""});
        continue;
      }
      if (code != 0) return failure(code);
      l.refusals = 0;
      events_.push_back(ssh_listening{i});
    }
    while (auto* opened = ::libssh2_channel_forward_accept(l.raw)) {
      const auto id = options_.next_id();
      channels_.emplace(id, channel{opened, window_max});
      windows_ += window_max;
      events_.push_back(ssh_accepted{id, i});
      has_leftover_ = has_unread_ = true;
    }
  }
  return {};
}

}  // namespace ntrace::net
