#pragma once
// The way from a runner to the dispatcher: production's tunnel_fsm and forward_fsm over a simulated
// SSH session, and the sshd at its other end.
#include "actors/tunnel/forward_fsm.hpp"
#include "actors/tunnel/tunnel_fsm.hpp"
#include "tests/sim/network.hpp"

namespace ntrace::sim {

/// Accepts sessions, answers probes, connects channels to the dispatcher's port.
class sim_sshd {
public:
  sim_sshd(world& w, network& net) : world_{w}, net_{net} {}

  /// The dispatcher's port: false when nothing listens there.
  std::function<bool(const stream_ptr&)> connect_target;
  bool is_listening() const { return world_.now() >= down_until_; }
  void accept(const stream_ptr& s);
  void stop_for(milliseconds lasts) { lengthen(down_until_, lasts); }
  /// It is stopped: the kernel still accepts, and nothing is answered.
  void freeze_for(milliseconds lasts) { lengthen(frozen_until_, lasts); }
  /// The key is taken out of authorized_keys, and comes back.
  void refuse_for(milliseconds lasts) { lengthen(refusing_until_, lasts); }
  /// The process of each session over that path dies.
  void kill_sessions(unsigned path);

private:
  struct session {
    stream_ptr to_runner;
    std::map<std::uint64_t, stream_ptr> channels;
  };
  /// Never shortens: what waits for its end stays in order.
  void lengthen(time_point& until, milliseconds lasts) const {
    until = std::max(until, world_.now() + lasts);
  }
  void on_frame(std::uint64_t number, const frame& f);
  void open(session& s, std::uint64_t channel);
  void end(std::uint64_t number);
  void say(const session& s, frame::kind what, std::uint64_t channel = 0, std::string data = {});

  world& world_;
  network& net_;
  std::map<std::uint64_t, session> sessions_;  ///< By the number of their stream.
  time_point down_until_{}, frozen_until_{}, refusing_until_{};
};

class sim_tunnel {
public:
  sim_tunnel(process& p, world& w, network& net, sim_sshd& sshd, unsigned path)
      : process_{p}, world_{w}, net_{net}, sshd_{sshd}, path_{path} {}

  void start();
  /// An operator drains it; it is started again `lasts` after it came to rest.
  void drain(milliseconds lasts);
  /// Its actor is gone: connections are reset, sessions end.
  void stop();
  /// Its process is gone.
  void forget();
  bool is_listening() const { return fsm_.has_value(); }
  void accept(const stream_ptr& local);
  bool is_up() const { return fsm_ && fsm_->state() == tunnel::tunnel_state::up; }
  std::size_t held() const { return forward_.held(); }

private:
  void perform(const tunnel::tunnel_effects& todo);
  void perform(const tunnel::forward_effects& todo);
  void start_again();
  void dial(tunnel::generation of);
  void connect(tunnel::generation of);
  void fail_dial(tunnel::generation of, tunnel::dial_failure how, const std::string& reason);
  void on_frame(tunnel::generation of, const frame& f);
  void drop_session(tunnel::generation of);
  void say(tunnel::connection_id channel, frame::kind what, std::string data = {});
  std::function<void()> still(std::function<void()> what);

  process& process_;
  world& world_;
  network& net_;
  sim_sshd& sshd_;
  unsigned path_;
  std::optional<tunnel::tunnel_fsm> fsm_;
  tunnel::forward_fsm forward_;
  std::map<tunnel::generation, stream_ptr> sessions_;
  std::map<tunnel::connection_id, stream_ptr> locals_;
  std::map<tunnel::connection_id, tunnel::generation> over_;
  tunnel::connection_id next_ = 1;
  std::uint64_t epoch_ = 0;
  milliseconds rests_for_{0};
  bool was_outstanding_ = false;
};

}  // namespace ntrace::sim
