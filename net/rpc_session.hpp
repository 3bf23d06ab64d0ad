#pragma once
// One connection's protocol state, both directions, without a socket: bytes in, bytes out.
#include <deque>
#include <map>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "config/clock.hpp"
#include "config/limits.hpp"
#include "net/json_rpc.hpp"

namespace ntrace::net {

/// A reply to one of our calls; `call` is the number that call() gave.
struct rpc_answer {
  std::uint64_t call = 0;
  result<json> value;  ///< The first result, or the peer's error.
};

/// The line discipline of docs/protocol.md. The owner moves bytes: it feeds what it read, sends
/// take_output(), tells how much is still unsent, and stops reading while wants_pause().
class rpc_session {
public:
  using event = std::variant<rpc_request, rpc_answer>;

  /// Takes what was read. Malformed lines are answered here; a line above the limit is answered
  /// and makes is_broken() true, since the framing is lost.
  std::vector<event> on_bytes(std::string_view bytes);

  /// Answers a request that on_bytes() gave, with a value as JSON text. A request that wants no
  /// reply is only forgotten.
  void answer(const rpc_request& request, const result<std::string>& text);

  /// Calls the peer; the answer comes as rpc_answer with the number given here.
  std::uint64_t call(std::string_view method, const json& args);
  /// Calls the peer without an answer (id -1).
  void notify(std::string_view method, const json& args);

  /// What is to be sent, in order; empties it.
  std::string take_output();
  bool has_output() const { return !output_.empty(); }

  bool wants_pause(std::size_t unsent_bytes) const {
    return in_flight_.size() > limits::unanswered_max ||
           unsent_bytes + output_.size() > limits::unsent_bytes_max;
  }
  bool is_broken() const { return broken_; }
  std::size_t requests_in_flight() const { return in_flight_.size(); }
  std::size_t calls_in_flight() const { return calls_.size(); }
  /// Replies to nothing that we asked.
  std::uint64_t stray_replies() const { return stray_replies_; }

private:
  void on_line(std::string_view line, std::vector<event>& out);

  std::string buffer_;
  std::string output_;
  std::multiset<rpc_id> in_flight_;
  std::set<std::uint64_t> calls_;
  std::uint64_t next_call_ = 1;
  std::uint64_t stray_replies_ = 0;
  std::size_t scanned_ = 0;  ///< Bytes of buffer_ known to hold no newline.
  bool broken_ = false;
};

}  // namespace ntrace::net
