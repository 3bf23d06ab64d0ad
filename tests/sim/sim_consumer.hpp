#pragma once
// A consumer of the old protocol (docs/protocol.md): asks for jobs with `next`, tells of them with
// `result`. On the way it dies, falls silent, half-closes, says things twice or comes back.
#include "net/rpc_session.hpp"
#include "tests/sim/network.hpp"
#include "tests/sim/sim_actors.hpp"

namespace ntrace::sim {

class sim_consumer : public process {
public:
  /// `accept`: whether the dispatcher's port takes a stream.
  sim_consumer(world& w, network& net, std::function<bool(const stream_ptr&)> accept)
      : process{w}, net_{net}, accept_{std::move(accept)} {}

  void start();
  /// Hangs up for good: what it has goes to others.
  void retire();

private:
  enum class habit {
    honest,
    dies_unheard,  ///< Before the first word about its job.
    dies_midway,   ///< After some documents.
    falls_silent,  ///< For longer than any lease.
    vanishes,      ///< Its machine is gone, and nobody closed the connection.
    half_closes,   ///< As nc does at the end of its input.
    says_twice,    ///< Each document.
    comes_back,    ///< Hangs up without hearing an answer, and says all again.
    count
  };
  struct job {
    nlohmann::json given;
    std::string run_id;
    std::size_t said = 0;  ///< Documents that were answered.
    std::size_t turn = 0;  ///< Its habit shows when so many were.
    habit does = habit::honest;
    bool fails = false;      ///< Its script.
    bool is_odd_now = true;  ///< The habit has not shown yet.
  };
  using job_ptr = std::shared_ptr<job>;

  void connect();
  void hang_up();
  void lose();
  void later();
  void call(const std::string& method, nlohmann::json args, reply answer);
  void ask();
  void take(const nlohmann::json& given);
  void say(const job_ptr& j);
  bool acts_odd(const job_ptr& j);
  void on_stored(const job_ptr& j, const result<nlohmann::json>& answer);
  void drop(const job_ptr& j);
  /// Does `what` if the connection of now is still there then.
  void soon(std::uint64_t from_ms, std::uint64_t to_ms, std::function<void()> what);

  network& net_;
  std::function<bool(const stream_ptr&)> accept_;
  std::optional<net::rpc_session> session_;
  stream_ptr stream_;
  std::map<std::uint64_t, reply> calls_;
  std::vector<job_ptr> jobs_;
  std::uint64_t connection_ = 0, next_job_ = 1;
};

}  // namespace ntrace::sim
