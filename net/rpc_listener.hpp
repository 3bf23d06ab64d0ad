#pragma once
// A port of the line protocol, on a thread of its own that waits for nothing but sockets.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <thread>

#include "config/busy_poll.hpp"
#include "config/peer_id.hpp"
#include "net/rpc_peer_fsm.hpp"
#include "net/socket.hpp"
#include "net/task_queue.hpp"

namespace ntrace::net {

/// The server of a port. Called on the listener's thread, where nothing may block.
class rpc_service {
public:
  virtual ~rpc_service() = default;
  /// Answered by rpc_listener::answer, also when no reply is wanted. `address`: the peer's host.
  virtual void on_request(peer_id peer, const std::string& address, rpc_request request) = 0;
  /// The peer closed its side; what it asked before is still answered.
  virtual void on_gone(peer_id peer) = 0;
  /// All that had come by now was given: what belongs together can go on together.
  virtual void on_round() = 0;
  /// The thread cannot go on, and ends.
  virtual void on_failed(const error& why) = 0;
};

class rpc_listener {
public:
  /// ec::unreachable or bad_config when it cannot listen there. Port 0: any free one.
  static result<std::unique_ptr<rpc_listener>> open(const host_port& at);
  /// Ends the thread and all connections.
  ~rpc_listener();
  rpc_listener(const rpc_listener&) = delete;
  rpc_listener& operator=(const rpc_listener&) = delete;

  std::uint16_t port() const { return port_; }
  /// No peer of this listener has a lower number, and each of an earlier one at this address has.
  peer_id first_peer() const { return first_peer_; }
  /// From any thread, and for longer than the listener lives: work for its thread, which is dropped
  /// once that has ended.
  const std::shared_ptr<task_queue>& tasks() const { return tasks_; }

  /// Starts the thread. `service` must live for longer than this.
  void serve(rpc_service& service);

  // On the listener's thread only. A peer that is gone is no mistake.
  /// With a value as JSON text.
  void answer(peer_id peer, const rpc_request& request, const result<std::string>& text);
  /// Calls the peer's method without an answer.
  void notify(peer_id peer, std::string_view method, const json& args);

private:
  struct peer {
    rpc_peer_fsm fsm;
    unique_fd fd;
    std::string address;
    std::string unsent{};
    bool reads = true;
    std::uint32_t watched = 0;  ///< Events of epoll(7).
  };
  rpc_listener() = default;
  void run();
  void loop();
  void look(int timeout_ms);
  int patience_ms(time_point now) const;
  void take_connections();
  void on_event(peer_id id, std::uint32_t events);
  void read(peer_id id, peer& p);
  void write(peer_id id, std::string_view text);
  void send_rest(peer_id id, peer& p);
  void watch(peer_id id, peer& p);
  void watch_door(bool wanted);
  void perform(peer_id id, peer_effects todo);
  void note_foreign(const peer& p, const std::string& first_bytes);
  void sweep(time_point now);

  unique_fd door_, ready_;
  std::uint16_t port_ = 0;
  std::shared_ptr<task_queue> tasks_ = std::make_shared<task_queue>();
  rpc_service* service_ = nullptr;
  std::map<peer_id, peer> peers_;
  peer_id first_peer_ = 0;
  bool takes_connections_ = false;
  time_point next_sweep_{}, next_foreign_log_{};
  busy_poll poll_{std::thread::hardware_concurrency()};
  std::uint64_t work_done_ =
      0;  ///< Requests served and tasks done: bytes alone are no work to wait for.
  std::thread thread_;
};

}  // namespace ntrace::net
