#pragma once
// The connections that a tunnel carries: held while there is no session, opened in order, passed on
// in both directions with bounded buffers, half-closed and closed; reset when their session is
// lost, because a channel's bytes belong to no other: docs/tunnel.md. Pure.
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "actors/tunnel/tunnel_fsm.hpp"

namespace ntrace::tunnel {

using connection_id = std::uint64_t;  ///< A local connection; chosen by the caller, never reused.

struct forward_options {
  std::size_t connections_max = 512;
  std::size_t opening_max = 16;  ///< Opens that wait for the server's answer at once.
  std::size_t held_connections_max = 256;
  std::size_t held_bytes_max = 65'536;          ///< Of one held connection.
  milliseconds held_max{60'000};                ///< Longest wait for a session.
  std::size_t channel_buffer_bytes = 262'144;   ///< Given to a channel or socket and not yet taken.
  std::size_t buffers_total_bytes = 64u << 20;  ///< Of all, shared fairly when they are many.
  milliseconds closing_max{5'000};              ///< For a closing channel's last word.
};

/// Open a channel over the live session; answer by on_opened or on_open_refused.
struct open_channel {
  connection_id of;
};
struct write_channel {
  connection_id of;
  std::string data;
};  ///< on_channel_took tells how much of all was taken.
struct write_local {
  connection_id of;
  std::string data;
};  ///< on_local_took, likewise.
struct end_channel {
  connection_id of;
};  ///< Send an end of file, after what was written.
struct end_local {
  connection_id of;
};  ///< shutdown(SHUT_WR), after what was written.
struct stop_local {
  connection_id of;
};  ///< Do not read the local socket.
struct read_local {
  connection_id of;
};  ///< Read it again.
struct stop_channel {
  connection_id of;
};  ///< Do not read the channel: its window holds the sender.
struct read_channel {
  connection_id of;
};
struct close_channel {
  connection_id of;
};  ///< Then on_channel_closed, or the entry is dropped after closing_max.
/// `is_reset`: with SO_LINGER 0; a clean end would say that the peer had finished.
struct close_local {
  connection_id of;
  bool is_reset;
  std::string reason;
};
struct look_again {
  time_point at;
};
using forward_effects = std::vector<
    std::variant<open_channel, write_channel, write_local, end_channel, end_local, stop_local,
                 read_local, stop_channel, read_channel, close_channel, close_local, look_again>>;

class forward_fsm {
public:
  explicit forward_fsm(forward_options options = {}) : options_{options} {}

  // From the tunnel's machine.
  forward_effects on_session(time_point now, generation live);
  /// What ran over it is reset; what only waited for its channel goes on waiting.
  forward_effects on_session_lost(time_point now, generation lost);

  // From the local listener.
  forward_effects on_accepted(time_point now, connection_id of);
  /// The server brought a connection (reverse forwarding): its channel is open already.
  forward_effects on_channel_accepted(time_point now, connection_id of, generation over);
  forward_effects on_local_bytes(time_point now, connection_id of, std::string data);
  forward_effects on_local_end(time_point now, connection_id of);
  forward_effects on_local_broken(time_point now, connection_id of);
  forward_effects on_local_took(time_point now, connection_id of, std::size_t bytes);

  // From the session's engine.
  forward_effects on_opened(time_point now, connection_id of);
  forward_effects on_open_refused(time_point now, connection_id of, const std::string& reason);
  forward_effects on_channel_bytes(time_point now, connection_id of, std::string data);
  forward_effects on_channel_end(time_point now, connection_id of);
  /// The server closed it. After an end of file what it sent is delivered whole; else a reset.
  forward_effects on_channel_closed(time_point now, connection_id of);
  forward_effects on_channel_took(time_point now, connection_id of, std::size_t bytes);
  forward_effects on_tick(time_point now);

  std::size_t size() const { return connections_.size(); }
  std::size_t held() const;
  std::size_t buffered_bytes() const { return bytes_; }
  /// Somebody waits for the server: the tunnel probes at its fast interval.
  bool is_outstanding() const;
  std::uint64_t leaked_channels() const { return leaked_; }

private:
  enum class phase { held, opening, open, closing };
  struct flow {
    std::size_t given = 0;    ///< To a channel or socket, and not yet taken.
    bool is_stopped = false;  ///< Who fills it is not read.
  };
  struct connection {
    phase at = phase::held;
    generation over = 0;  ///< Of opening, open and closing.
    std::string waiting;  ///< Bytes that came before the channel was there.
    flow to_channel, to_local;
    time_point until{};  ///< Of held and closing.
    bool local_ended = false, channel_ended = false, is_local_gone = false;
  };
  using iterator = std::map<connection_id, connection>::iterator;

  connection* find(connection_id of, phase at);
  bool take(connection& c, flow& f, std::size_t bytes);
  bool give(flow& f, std::size_t bytes);
  std::size_t buffer_bytes() const;
  iterator drop(iterator at);
  void end_whole(iterator at, forward_effects& out);
  iterator reset(iterator at, const std::string& reason, forward_effects& out);
  void open_next(forward_effects& out);
  void begin_close(time_point now, iterator at, forward_effects& out);
  void close_when_both_ended(time_point now, connection_id of, forward_effects& out);

  forward_options options_;
  std::map<connection_id, connection> connections_;  ///< In order of arrival.
  generation live_ = 0, opening_over_ = 0;
  std::set<connection_id> opening_;  ///< Asked for over the live session; also whose client left.
  std::size_t bytes_ = 0;
  std::uint64_t leaked_ = 0;
};

}  // namespace ntrace::tunnel
