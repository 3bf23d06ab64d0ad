#pragma once
// Serves a forge's webhook over HTTP: `POST /github` becomes a push of the dispatcher.
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <string>

#include "config/clock.hpp"
#include "config/host_port.hpp"

namespace ntrace::dashboard {

struct webhook_options {
  host_port listen;
  std::string secret_file{};  ///< Empty: no signature is asked for, and only loopback is served.
  milliseconds answer_max{10'000};   ///< A forge gives a delivery up after 10 s.
  milliseconds request_max{10'000};  ///< A slower sender is cut off.
};

/// `dispatcher` is asked by rpc::call{method "push"}. Answers rpc::port_atom by its port.
/// ec::bad_config for a listener that anybody reaches without a secret, ec::io for a secret
/// file that cannot be read, ec::unreachable for an address that cannot be bound.
result<caf::actor> spawn_webhook(caf::actor_system& system, const webhook_options& options,
                                 const caf::actor& dispatcher);

}  // namespace ntrace::dashboard
