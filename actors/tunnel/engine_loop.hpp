#pragma once
// The thread of a tunnel_engine, from the inside.
#include <sys/eventfd.h>

#include <atomic>
#include <deque>
#include <mutex>
#include <thread>

#include "actors/tunnel/tunnel_engine.hpp"
#include "config/file.hpp"
#include "net/local_sockets.hpp"
#include "net/network_watch.hpp"
#include "net/tcp_connector.hpp"

namespace ntrace::tunnel {

class tunnel_engine::loop {
public:
  loop(tunnel_settings settings, std::uint64_t seed, std::function<void(std::string)> on_defect);
  ~loop();
  void post(std::function<void()> what);
  nlohmann::json status() const;
  void retry() { perform(tunnel_.on_retry(now_)); }
  void drain() { perform(tunnel_.on_drain(now_)); }
  void exec(exec_id id, exec_request request, exec_function then);
  void cancel(exec_id id) { perform(exec_.on_cancel(now_, id)); }

private:
  /// A dial, and the session that it becomes.
  struct line {
    std::unique_ptr<net::tcp_connector> connector;
    std::unique_ptr<net::ssh_session> session;
    bool is_due = true;  ///< pump() has something to do.
    bool is_over = false, is_ready = true;
    int fd() const { return session ? session->fd() : connector->fd(); }
  };

  void run();
  void serve();
  void turn();
  void wait();
  void listen_when_due();
  void serve_local();
  void serve_line(generation of, line& l);
  void begin_session(generation of, line& l, net::tcp_connection connected);
  void on_line_failed(generation of, const error& why);

  void perform(const tunnel_effects& todo);
  void perform(forward_effects todo);
  void perform(exec_effects todo);
  bool take_exec_event(net::ssh_event& event);
  void end_exec_session();
  void perform_dial(const dial& e);
  void note(const report& r);
  void on_session_event(generation of, net::ssh_event&& event);
  net::ssh_session* live_session();
  bool is_live(generation of) const { return of == tunnel_.live(); }

  tunnel_settings settings_;
  tunnel_fsm tunnel_;
  forward_fsm forward_;
  exec_fsm exec_;
  std::map<exec_id, exec_function> exec_asked_;
  generation exec_over_ = 0;
  std::uint64_t next_id_ = 1;
  net::local_sockets local_;
  net::network_watch network_;
  std::map<generation, line> lines_;
  time_point now_{}, tunnel_wake_ = time_point::max(), forward_wake_ = time_point::max(),
                     exec_wake_ = time_point::max();
  time_point listen_at_{}, state_since_{}, down_since_{}, forbidden_logged_{};
  bool is_unheard_ = false;  ///< Bytes left over the live session and nothing came since.

  // For status.
  std::string why_ = "not started", server_, listen_problem_;
  std::uint64_t ups_ = 0, lost_ = 0, repeated_ = 0;
  std::vector<std::string> reverse_;
  std::string last_failure_;

  std::function<void(std::string)> on_defect_;
  unique_fd wake_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::mutex mutex_;
  std::deque<std::function<void()>> posted_;
  bool stop_ = false, is_posted_ = false, is_local_ready_ = true, is_network_ready_ = false;
  std::thread thread_;  ///< The last: it uses all the others.
};

}  // namespace ntrace::tunnel
