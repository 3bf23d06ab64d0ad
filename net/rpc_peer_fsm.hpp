#pragma once
// One connection to a server of the line protocol: what is read, answered and held back, and when
// it is closed. A peer may half-close, as nc does at the end of its input, and is still answered;
// one that does not read what it asked for is given up. A connection that does not begin with `[`
// is refused: a browser cannot be made to send that byte first (docs/protocol.md, "Framing"). Pure.
#include <string>
#include <variant>
#include <vector>

#include "net/rpc_session.hpp"

namespace ntrace::net {

/// Let somebody serve it; answer by on_answer.
struct serve_request {
  rpc_request request;
};
/// Send it; on_written tells how much of it is left.
struct write_bytes {
  std::string text;
};
/// The peer speaks another protocol, which began so. Nothing of it is served; the connection is
/// closed once the error is sent.
struct refuse_foreign {
  std::string first_bytes;
};
struct stop_reading {};
struct read_again {};
/// The peer asks nothing more, by its own half-close or because it is gone. Once.
struct peer_is_gone {};
/// Close both directions and forget the connection: last of all effects.
struct close_connection {};
using peer_effects =
    std::vector<std::variant<serve_request, write_bytes, refuse_foreign, stop_reading, read_again,
                             peer_is_gone, close_connection>>;

class rpc_peer_fsm {
public:
  peer_effects on_bytes(time_point now, std::string_view bytes);
  /// A request's value, as JSON text.
  peer_effects on_answer(time_point now, const rpc_request& request,
                         const result<std::string>& text);
  /// Calls the peer's method without an answer.
  peer_effects on_notify(time_point now, std::string_view method, const json& args);
  /// `unsent`: bytes that were given to write and are not sent yet.
  peer_effects on_written(time_point now, std::size_t unsent);
  /// The peer sends nothing more; it may still read.
  peer_effects on_half_close(time_point now);
  /// The connection is gone.
  peer_effects on_broken();
  /// Gives a peer up that has read nothing for limits::unread_deadline.
  peer_effects on_tick(time_point now);

  bool is_closed() const { return is_closed_; }

private:
  /// False when the connection begins with another byte than `[`. Takes blanks off `bytes`.
  bool begins_well(std::string_view& bytes);
  peer_effects refuse(time_point now, std::string_view bytes);
  void pump(time_point now, peer_effects& out);
  void close(peer_effects& out);

  rpc_session session_;
  std::size_t unsent_ = 0;
  time_point last_progress_{};
  bool has_begun_ = false, is_refused_ = false;
  bool is_half_closed_ = false, is_paused_ = false, is_closed_ = false;
};

}  // namespace ntrace::net
