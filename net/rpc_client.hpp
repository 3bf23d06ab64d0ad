#pragma once
// A caller of the line protocol that blocks: for the command line and for tests.
#include "net/rpc_session.hpp"
#include "net/socket.hpp"

namespace ntrace::net {

class rpc_client {
public:
  /// ec::unreachable when nobody listens there.
  static result<rpc_client> connect(const host_port& to,
                                    milliseconds deadline = milliseconds{5000});

  /// One request and its answer. ec::connection_lost when the peer goes away first (it is then not
  /// known whether the request had an effect), ec::timed_out at the deadline.
  result<json> call(std::string_view method, const json& args, milliseconds deadline);

private:
  explicit rpc_client(unique_fd fd) : fd_{std::move(fd)} {}
  unique_fd fd_;
  rpc_session session_;
};

}  // namespace ntrace::net
