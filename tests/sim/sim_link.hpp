#pragma once
// The runner's connection to the dispatcher, as rpc_link_actor keeps it: asks for its hello, dials
// the tunnel's listener, speaks rpc_session; again and again.
#include "actors/rpc/messages/runner_messages.hpp"
#include "net/rpc_session.hpp"
#include "tests/sim/network.hpp"
#include "tests/sim/sim_actors.hpp"

namespace ntrace::sim {

class sim_link {
public:
  /// `dial`: a connection to the tunnel's listener, or nothing.
  sim_link(process& p, world& w, network& net, sim_facade& owner, std::function<stream_ptr()> dial)
      : process_{p}, world_{w}, net_{net}, owner_{owner}, dial_{std::move(dial)} {}

  /// What the owner does about these; each is done by its incarnation.
  std::function<void(const reply&)> give_hello;
  std::function<void(const rpc::hello_answer&)> take_up;
  std::function<void()> take_lost;
  std::function<void(const std::string& method, const nlohmann::json&, const reply&)> serve;

  void start();
  void stop();
  void call(const std::string& method, nlohmann::json args, const reply& answer);

private:
  void begin();
  void connect();
  void lose();
  void later();
  void pump();
  void on_bytes(const std::string& data);
  std::function<void()> still(std::function<void()> what);

  process& process_;
  world& world_;
  network& net_;
  sim_facade& owner_;
  std::function<stream_ptr()> dial_;
  nlohmann::json hello_;
  std::optional<net::rpc_session> session_;
  stream_ptr stream_;
  std::map<std::uint64_t, reply> calls_;
  std::uint64_t hello_call_ = 0, epoch_ = 0, connection_ = 0;
  unsigned failures_ = 0;
  bool is_up_ = false;
};

}  // namespace ntrace::sim
