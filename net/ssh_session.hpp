#pragma once
// One SSH session over libssh, without a thread and without waiting: commands go in, pump() moves
// everything that can move and gives events. All calls come from the thread that made it, because
// a session of libssh is not thread-safe, not even for two channels. docs/tunnel.md, "The engine".
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "config/clock.hpp"
#include "config/file.hpp"
#include "net/known_hosts.hpp"
#include "net/ssh_dial_fsm.hpp"
#include "net/ssh_key.hpp"
#include "net/ssh_names.hpp"

namespace ntrace::net {

using channel_id = std::uint64_t;

/// The server listens there and the connections come to us.
struct reverse_forward {
  host_port listen;  ///< On the server; a fixed port, so that names are stable.
  host_port target;  ///< On our side.
};

struct ssh_session_options {
  ssh_target to;
  private_key key;
  std::string passphrase;  ///< Of an encrypted key.
  known_hosts pinned;
  std::string known_hosts_file;  ///< For messages, and for accept_first.
  bool accept_first = false;     ///< Pin an unknown key at the first meeting.
  host_port target;              ///< Where channels go, as the server sees it.
  std::vector<reverse_forward> reverse;
  ssh_deadlines deadlines;
  std::function<channel_id()> next_id;  ///< For connections that the server brings.
};

/// The line of authorized_keys (sshd(8)) that lets `key` reach `target`, listen for `reverse`, and
/// do nothing else.
std::string authorized_line(const public_key& key, const host_port& target,
                            const std::vector<reverse_forward>& reverse);

struct ssh_banner {};
struct ssh_authenticated {
  std::string server, key_exchange, cipher;
};
/// Bytes came; whatever they are, the server lives.
struct ssh_inbound {};
struct ssh_probe_answered {};
struct ssh_opened {
  channel_id id;
};
struct ssh_open_refused {
  channel_id id;
  std::string reason;         ///< A sentence.
  bool is_forbidden = false;  ///< The server's permitopen does not name the target.
};
struct ssh_bytes {
  channel_id id;
  std::string data;
};
/// From a command's stderr.
struct ssh_error_bytes {
  channel_id id;
  std::string data;
};
/// A command ended; either of both may stay out.
struct ssh_exit {
  channel_id id;
  std::optional<int> status;
  std::string signal;  ///< Without SIG.
};
struct ssh_took {
  channel_id id;
  std::size_t bytes;
};
struct ssh_end_of_file {
  channel_id id;
};
struct ssh_closed {
  channel_id id;
};
struct ssh_listening {
  std::size_t reverse;  ///< Index in the options.
};
struct ssh_listen_refused {
  std::size_t reverse;
  std::string reason;
};
struct ssh_accepted {
  channel_id id;
  std::size_t reverse;
};
/// The last event of a session.
struct ssh_ended {
  error why;
};
using ssh_event =
    std::variant<ssh_banner, ssh_authenticated, ssh_inbound, ssh_probe_answered, ssh_opened,
                 ssh_open_refused, ssh_bytes, ssh_error_bytes, ssh_exit, ssh_took, ssh_end_of_file,
                 ssh_closed, ssh_listening, ssh_listen_refused, ssh_accepted, ssh_ended>;

/// Of a connection: tcp(7), TCP_INFO.
struct retransmissions {
  std::uint64_t count = 0;         ///< Segments, in all.
  std::optional<time_point> next;  ///< Nothing when all is acknowledged.
};

class ssh_session {
public:
  /// `socket`: connected, non-blocking. The handshake begins with the first pump().
  ssh_session(unique_fd socket, ssh_session_options options, time_point now);
  ~ssh_session();

  int fd() const;
  bool wants_write() const;
  /// pump() has more to do at once.
  bool is_busy() const;
  /// Acknowledges what came without delay, once what it caused is sent: a server that waits for the
  /// acknowledgement before it sends its next small packet (RFC 896) waits for nothing else. It is
  /// not sticky: tcp(7), TCP_QUICKACK. To be called before waiting.
  void acknowledge();
  /// When pump() must be called at the latest.
  std::optional<time_point> deadline() const;
  /// Moves what can move. After ssh_ended nothing comes any more.
  /// `is_ready`: the descriptor may have input, or room for what waits.
  std::vector<ssh_event> pump(time_point now, bool is_ready = true);

  // Done by the next pump().
  /// Opens a channel of a type that only servers may open: the server must refuse it, and so shows
  /// that it lives.
  void probe();
  /// True when, since the last call, the server's kernel took more of what stands before a probe
  /// that is asked for or out. Such a probe is not unanswered: it has not arrived.
  bool has_probe_advanced();
  /// What TCP has sent again over this connection, and when it will next.
  retransmissions look_at_retransmissions(time_point now) const;
  /// Asks the server to listen for options.reverse, from now on and again when it refuses.
  void listen_reverse();
  void open(channel_id id);
  /// Runs the line by the user's shell there; the channel's bytes are its stdin and stdout.
  void exec(channel_id id, std::string line);
  void write(channel_id id, std::string data);
  void send_eof(channel_id id);
  void set_reading(channel_id id, bool on);
  /// Once what was written and its end of file are sent; without an end of file, at once.
  void close(channel_id id);
  /// Says goodbye as far as that goes without waiting.
  void disconnect();

  ssh_stage stage() const;

private:
  class impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace ntrace::net
