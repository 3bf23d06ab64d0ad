#pragma once
// An ssh_session from the inside. libssh's names are the same as ours, so they stay in here.
#include <libssh/callbacks.h>
#include <libssh/libssh.h>
#include <libssh/server.h>

#include <deque>
#include <map>

#include "net/ssh_session.hpp"

namespace ntrace::net {

class ssh_session::impl {
public:
  impl(unique_fd socket, ssh_session_options options, time_point now);
  ~impl() = default;
  impl(const impl&) = delete;
  impl& operator=(const impl&) = delete;

  int fd() const { return socket_.get(); }
  bool wants_write() const;
  bool is_busy() const { return has_leftover_; }
  void acknowledge();
  std::optional<time_point> deadline() const;
  std::vector<ssh_event> pump(time_point now, bool is_ready);
  void probe();
  bool has_probe_advanced();
  retransmissions look_at_retransmissions(time_point now) const;
  void listen_reverse() { is_listening_wanted_ = true; }
  /// `line`: of a command; else the channel leads to the target.
  void open(channel_id id, std::string line);
  void write(channel_id id, std::string data);
  void send_eof(channel_id id);
  void set_reading(channel_id id, bool on);
  void close(channel_id id);
  void disconnect();
  ssh_stage stage() const { return dial_.stage(); }

private:
  /// Lives as long as libssh's own channel, which calls back into it.
  struct channel {
    impl* owner = nullptr;
    channel_id id = 0;
    ssh_channel_struct* raw = nullptr;
    ssh_channel_callbacks_struct callbacks{};
    std::deque<std::string> out{};
    std::size_t out_offset = 0;
    std::size_t unread = 0;  ///< Bytes that libssh holds because nobody reads.
    std::string line{};
    bool is_open = false, has_session = false;
    std::optional<time_point> open_until{};  ///< Since it was asked for.
    bool is_reading = true, eof_wanted = false, eof_sent = false;
    bool close_wanted = false, close_sent = false;
    bool has_eof = false, has_close = false;            ///< What the server sent,
    bool has_told_eof = false, has_told_close = false;  ///< and of it, what we told.
  };
  struct listener {
    bool is_up = false;
    time_point retry_at{};
    unsigned refusals = 0;
  };
  struct freer {
    void operator()(ssh_session_struct* s) const { ::ssh_free(s); }
    void operator()(ssh_event_struct* e) const { ::ssh_event_free(e); }
    void operator()(ssh_key_struct* k) const { ::ssh_key_free(k); }
    void operator()(ssh_channel_struct* c) const { ::ssh_channel_free(c); }
  };
  void set_options();
  std::optional<error> step_dial(time_point now);
  std::optional<error> read_along(time_point now);
  std::optional<error> check_host_key();
  std::optional<error> authenticate();
  std::optional<error> receive();
  bool has_heard();
  std::optional<error> serve(time_point now);
  std::optional<error> serve_probe();
  std::optional<error> serve_opens(time_point now);
  std::optional<error> serve_reads();
  std::optional<error> serve_writes();
  std::optional<error> serve_ends();
  std::optional<error> serve_listeners(time_point now);
  int ask_for(channel& c);
  std::optional<error> refused_open(const channel& c);
  channel& add_channel(channel_id id, ssh_channel_struct* raw);
  int on_data(channel& c, std::string_view data);
  int on_message(ssh_message_struct* m);
  std::uint64_t acknowledged_bytes() const;
  bool has_ended() const;
  error failure() const;
  std::optional<error> mismatch_with_server() const;
  void end(error why);

  ssh_session_options options_;
  std::string host_keys_;  ///< The types that we ask for.
  ssh_dial_fsm dial_;
  unique_fd socket_;  ///< A second name of libssh's own, which it closes when it likes.
  ssh_counter_struct sent_{}, packets_{};
  std::unique_ptr<ssh_session_struct, freer> raw_;
  std::unique_ptr<ssh_event_struct, freer> loop_;
  std::unique_ptr<ssh_key_struct, freer> key_;
  std::map<channel_id, channel> channels_;
  std::vector<listener> listeners_;
  std::unique_ptr<ssh_channel_struct, freer> probing_;  ///< Its answer is not there yet.
  std::string first_bytes_;      ///< After the banner: the server's offer, if nothing is in common.
  bool has_descriptor_ = false;  ///< Of libssh; else the first pump() ends the session.
  bool is_listening_wanted_ = false, is_probe_wanted_ = false, is_none_refused_ = false,
       has_leftover_ = false, is_heard_ = false, is_acknowledging_due_ = false;
  std::uint64_t heard_bytes_ = 0;  ///< Received bytes that has_heard() told of.
  std::uint64_t probe_end_ = 0, probe_acknowledged_ = 0;  ///< Of the bytes that were sent.
  std::size_t unread_bytes_ = 0;                          ///< Of all channels.
  std::vector<ssh_event> events_;
  std::vector<char> scratch_;
};

}  // namespace ntrace::net
