#pragma once
// The local ends of a tunnel: a listener and the connections that it takes or makes, without a
// thread and without waiting. Commands go in, pump() gives events.
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "config/clock.hpp"
#include "config/file.hpp"
#include "config/host_port.hpp"

namespace ntrace::net {

using socket_id = std::uint64_t;

struct local_accepted {
  socket_id id;
};
struct local_bytes {
  socket_id id;
  std::string data;
};
/// Its owner sends no more; it may still read.
struct local_end {
  socket_id id;
};
struct local_broken {
  socket_id id;
};
struct local_took {
  socket_id id;
  std::size_t bytes;
};
using local_event = std::variant<local_accepted, local_bytes, local_end, local_broken, local_took>;

class local_sockets {
public:
  /// `next_id` names what is accepted. At `connections_max` no more are taken from the kernel.
  local_sockets(std::function<socket_id()> next_id, std::size_t connections_max);

  /// Listens from now on. ec::unreachable for an address that is taken.
  result<void> listen(const host_port& at);
  bool is_listening() const { return static_cast<bool>(listener_); }
  /// Readable when pump() has something to do.
  int fd() const { return poll_.get(); }
  /// When pump() must be called though nothing is readable.
  time_point next() const;
  std::vector<local_event> pump(time_point now);
  /// Events of commands wait for pump(), whatever the descriptor says.
  bool has_events() const { return !events_.empty(); }

  /// Begins a connection of ours; local_broken when it does not come about.
  void connect(socket_id id, const host_port& to);
  void write(socket_id id, std::string data);
  /// shutdown(SHUT_WR), after what was written.
  void end(socket_id id);
  void set_reading(socket_id id, bool on);
  /// With `is_reset` at once and by a reset; else after what was written, for half a minute at
  /// most.
  void close(time_point now, socket_id id, bool is_reset);

  std::size_t size() const { return sockets_.size(); }

private:
  struct local {
    unique_fd fd;
    std::deque<std::string> out{};
    std::size_t out_offset = 0;
    bool is_connecting = false, is_reading = true, has_ended = false, end_wanted = false,
         end_sent = false, is_closing = false;
    std::uint32_t watched = 0;
    time_point until = time_point::max();  ///< Of closing.
  };
  using iterator = std::map<socket_id, local>::iterator;

  void accept_some(time_point now);
  void receive(iterator at);
  void flush(iterator at);
  void fail_socket(iterator at);
  void watch(iterator at);
  void watch_listener(bool on);
  void discard(iterator at, bool is_reset);

  std::function<socket_id()> next_id_;
  std::size_t connections_max_;
  unique_fd poll_, listener_;
  bool is_listener_watched_ = false;
  time_point accept_at_ = time_point::max();  ///< After a pause because of a lack of descriptors.
  std::map<socket_id, local> sockets_;
  std::vector<local_event> events_;
  std::vector<char> scratch_;
};

}  // namespace ntrace::net
