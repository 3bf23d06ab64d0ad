#include "actors/rpc/rpc_server_actor.hpp"

#include <caf/event_based_actor.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>

#include <map>
#include <utility>

#include "net/rpc_listener.hpp"
#include "supervision/caf_types.hpp"
#include "supervision/held_bytes.hpp"

namespace ntrace::rpc {
namespace {

/// What came together on the listener's thread, in its order.
struct asked {
  peer_id peer = 0;
  net::rpc_request request;  ///< Without its arguments.
  nlohmann::json args;
  std::string address;
};
struct arrivals {
  std::vector<std::variant<asked, peer_gone>> all;
};
/// The port's own method has answered a `call` of an actor.
struct own_answer {
  std::uint64_t number = 0;
  result<std::string> value;
};
struct listener_failed {
  error why;
};

}  // namespace
}  // namespace ntrace::rpc

NTRACE_LOCAL_MESSAGE(ntrace::rpc::arrivals)
NTRACE_LOCAL_MESSAGE(ntrace::rpc::own_answer)
NTRACE_LOCAL_MESSAGE(ntrace::rpc::listener_failed)

namespace ntrace::rpc {
namespace {

/// The listener and who serves it, on its thread.
class port_service final : public net::rpc_service {
public:
  port_service(std::unique_ptr<net::rpc_listener> listener, const port_method_spec& own)
      : own_name_{own.name},
        own_{own.make ? own.make(listener->tasks()) : nullptr},
        listener_{std::move(listener)} {}

  net::rpc_listener& listener() { return *listener_; }
  /// From now on what is asked goes to `to`, which must outlive this.
  void start(caf::actor_addr to) {
    to_ = std::move(to);
    listener_->serve(*this);
  }
  /// On the listener's thread.
  void call_own(const nlohmann::json& args, port_method::reply then) {
    own_->on_call(args, std::move(then));
  }
  void tell(caf::message what) {
    if (const auto to = caf::actor_cast<caf::actor>(to_)) caf::anon_send(to, std::move(what));
  }
  bool serves_itself(const std::string& method) const { return own_ && method == own_name_; }

private:
  void on_request(peer_id peer, const std::string& address, net::rpc_request request) override {
    auto args = std::exchange(request.args, {});
    if (serves_itself(request.method))
      return own_->on_call(args, [this, peer, request = std::move(request)](const auto& value) {
        listener_->answer(peer, request, value);
      });
    arrived_.all.emplace_back(asked{peer, std::move(request), std::move(args), address});
  }
  void on_gone(peer_id peer) override { arrived_.all.emplace_back(peer_gone{peer}); }
  void on_round() override {
    if (own_) own_->on_round();
    if (!arrived_.all.empty()) tell(caf::make_message(std::exchange(arrived_, {})));
  }
  void on_failed(const error& why) override { tell(caf::make_message(listener_failed{why})); }

  caf::actor_addr to_;
  std::string own_name_;
  arrivals arrived_;
  std::unique_ptr<port_method> own_;
  std::unique_ptr<net::rpc_listener> listener_;  ///< Goes first: its thread calls all else.
};

struct server_state {
  const char* name = "rpc_server";
  caf::actor handler;
  std::unique_ptr<port_service> port;
  std::map<std::uint64_t, caf::response_promise> calls;  ///< Of actors, to the port's own method.
  std::uint64_t next_call = 1;
};
using server_self = caf::stateful_actor<server_state>*;

void post(server_self self, std::function<void(net::rpc_listener&)> what) {
  auto& listener = self->state.port->listener();
  listener.tasks()->post([&listener, what = std::move(what)] { what(listener); });
}

void serve(server_self self, asked a) {
  call said{a.peer, a.request.method, std::move(a.args), std::move(a.address)};
  auto answer = [self, peer = a.peer,
                 request = std::move(a.request)](const result<nlohmann::json>& value) {
    post(self, [peer, request, text = net::to_text(value)](net::rpc_listener& to) {
      to.answer(peer, request, text);
    });
  };
  self->request(self->state.handler, caf::infinite, std::move(said))
      .then([answer](const served& s) { answer(s.value); },
            [answer](const caf::error& e) {
              auto ours = supervision::from_caf(e);
              if (ours.code == ec::child_failed)
                ours.message =
                    "the server restarts; it is not known whether it was done: try again";
              answer(fail(std::move(ours)));
            });
}

/// What an actor asks of the port's own method.
caf::result<served> serve_own(server_self self, call& c) {
  auto& state = self->state;
  if (!state.port->serves_itself(c.method))
    return supervision::to_caf({ec::no_such_method, "the port serves no " + c.method, {}});
  auto promise = self->make_response_promise();
  const auto number = state.next_call++;
  state.calls.emplace(number, promise);
  post(self, [port = state.port.get(), number, args = std::move(c.args)](net::rpc_listener&) {
    port->call_own(args, [port, number](const auto& value) {
      port->tell(caf::make_message(own_answer{number, value}));
    });
  });
  return caf::delegated<served>{};
}

caf::behavior server(server_self self, const std::shared_ptr<std::unique_ptr<port_service>>& port,
                     const caf::actor& handler) {
  supervision::guard(self, "rpc_server");
  self->state.handler = handler;
  self->state.port = std::move(*port);
  self->send(handler, port_opened{self->state.port->listener().first_peer()});
  self->state.port->start(self->address());
  return {[self](arrivals& came) {
            for (auto& one : came.all)
              if (auto* a = std::get_if<asked>(&one))
                serve(self, std::move(*a));
              else
                self->send(self->state.handler, std::get<peer_gone>(one));
          },
          [self](const notify& n) {
            post(self, [n](net::rpc_listener& to) { to.notify(n.peer, n.method, n.args); });
          },
          [self](call& c) { return serve_own(self, c); },
          [self](own_answer& a) {
            auto asker = self->state.calls.extract(a.number);
            if (!asker) return;
            if (a.value)
              give(asker.mapped(), nlohmann::json::parse(*a.value, nullptr, false));
            else
              deny(asker.mapped(), supervision::to_caf(a.value.error()));
          },
          [self](const listener_failed& f) { self->quit(supervision::to_caf(f.why)); },
          [self](port_atom) { return self->state.port->listener().port(); }};
}

}  // namespace

result<caf::actor> spawn_rpc_server(caf::actor_system& system, const host_port& at,
                                    const caf::actor& handler, const port_method_spec& own) {
  auto listener = net::rpc_listener::open(at);
  if (!listener) return fail(listener.error());
  // Shared, because CAF copies what a behavior is made of.
  const auto port = std::make_shared<std::unique_ptr<port_service>>(
      std::make_unique<port_service>(std::move(*listener), own));
  return caf::actor_cast<caf::actor>(system.spawn(server, port, handler));
}

}  // namespace ntrace::rpc
