#pragma once
// One SSH session over libssh2, without a thread and without waiting: commands go in, pump() moves
// everything that can move and gives events. All calls come from the thread that made it, because
// libssh2 sessions are not thread-safe, not even for two channels. docs/tunnel.md, "The engine".
#include <libssh2.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "config/clock.hpp"
#include "net/known_hosts.hpp"
#include "net/ssh_dial_fsm.hpp"
#include "net/ssh_key.hpp"
#include "net/ssh_names.hpp"
#include "net/ssh_transport.hpp"

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
                 ssh_open_refused, ssh_bytes, ssh_took, ssh_end_of_file, ssh_closed, ssh_listening,
                 ssh_listen_refused, ssh_accepted, ssh_ended>;

class ssh_session {
public:
  /// `socket`: connected. The handshake begins with the first pump().
  ssh_session(unique_fd socket, ssh_session_options options, time_point now);
  ~ssh_session();
  ssh_session(const ssh_session&) = delete;
  ssh_session& operator=(const ssh_session&) = delete;

  int fd() const { return transport_.fd(); }
  bool wants_read() const { return transport_.can_receive(); }
  bool wants_write() const { return transport_.has_unsent(); }
  /// pump() has more to do at once.
  bool is_busy() const { return has_leftover_; }
  /// To be called before waiting, when the events of the last pump() are dealt with.
  void acknowledge() { transport_.acknowledge(); }
  /// When pump() must be called at the latest.
  std::optional<time_point> deadline() const;
  /// Moves what can move. After ssh_ended nothing comes any more.
  /// `is_readable`: the descriptor may have input.
  std::vector<ssh_event> pump(time_point now, bool is_readable = true);

  // Done by the next pump().
  /// A channel of a type that no server knows: it must refuse it, and so shows that it lives.
  void probe();
  /// True when, since the last call, the server's kernel took more of what stands before a probe
  /// that is asked for or out. Such a probe is not unanswered: it has not arrived.
  bool has_probe_advanced();
  /// Asks the server to listen for options.reverse, from now on and again when it refuses.
  void listen_reverse() { is_listening_wanted_ = true; }
  void open(channel_id id) { to_open_.push_back(id); }
  void write(channel_id id, std::string data);
  void send_eof(channel_id id);
  void set_reading(channel_id id, bool on);
  /// Once what was written and its end of file are sent; without an end of file, at once.
  void close(channel_id id);
  /// Says goodbye as far as that goes without waiting.
  void disconnect();

  ssh_stage stage() const { return dial_.stage(); }
  std::size_t channels() const { return channels_.size(); }

private:
  struct channel {
    LIBSSH2_CHANNEL* raw;
    std::size_t window;
    std::deque<std::string> out{};
    std::size_t out_offset = 0;
    bool is_reading = true, eof_wanted = false, eof_sent = false, close_wanted = false;
    bool has_ended = false, has_closed = false;  ///< The server's side.
  };
  struct listener {
    LIBSSH2_LISTENER* raw = nullptr;
    time_point retry_at{};
    unsigned refusals = 0;
  };
  struct freer {
    void operator()(LIBSSH2_SESSION* s) const;
  };
  struct slot {
    bool is_probe = false;
    channel_id id = 0;
    time_point until{};
    std::size_t window = 0;
  };

  std::optional<error> step_dial(time_point now);
  std::optional<error> check_host_key();
  std::optional<error> authenticate(time_point now);
  std::optional<error> serve(time_point now);
  std::optional<error> serve_open(time_point now);
  std::optional<error> serve_reads();
  std::optional<error> serve_writes();
  std::optional<error> serve_ends();
  std::optional<error> serve_listeners(time_point now);
  std::optional<error> on_open_done(LIBSSH2_CHANNEL* opened);
  std::size_t next_window() const;
  error failure(int code) const;
  void end(error why);

  ssh_session_options options_;
  ssh_dial_fsm dial_;
  ssh_transport transport_;
  std::unique_ptr<LIBSSH2_SESSION, freer> raw_;
  std::map<channel_id, channel> channels_;
  std::vector<listener> listeners_;
  std::deque<channel_id> to_open_;
  std::optional<slot> slot_;  ///< libssh2 has one place for opens in a session.
  bool is_listening_wanted_ = false, is_probe_wanted_ = false, has_asked_methods_ = false,
       has_leftover_ = false, has_unread_ = false,
       is_full_ = false;  ///< Something waits for room in the transport.
  std::uint64_t probe_end_ = 0, probe_acknowledged_ = 0;  ///< Of transport_'s taken bytes.
  std::size_t windows_ = 0;  ///< Bytes that the open channels' senders may have under way.
  std::string first_bytes_;  ///< After the banner: the server's offer, if nothing is in common.
  std::vector<ssh_event> events_;
  std::vector<char> scratch_;
};

/// What the server offers in its SSH_MSG_KEXINIT (RFC 4253, section 7.1), for an error's sentence;
/// empty when the bytes are none. Pure.
std::string describe_offer(std::string_view packet);

}  // namespace ntrace::net
