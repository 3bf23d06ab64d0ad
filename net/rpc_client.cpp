#include "net/rpc_client.hpp"

#include <fmt/core.h>
#include <sys/socket.h>

#include <cerrno>

namespace ntrace::net {

result<rpc_client> rpc_client::connect(const host_port& to, milliseconds deadline) {
  auto fd = connect_tcp(to, deadline);
  if (!fd) return fail(fd.error());
  return rpc_client{std::move(*fd)};
}

result<json> rpc_client::call(std::string_view method, const json& args, milliseconds deadline) {
  const auto end = steady_clock::now() + deadline;
  const auto number = session_.call(method, args);
  const auto lost = [&] {
    return fail(ec::connection_lost, "the server went away before it answered " +
                                         std::string{method} +
                                         "; it is not known whether it was done");
  };
  if (!send_all(fd_.get(), session_.take_output(), deadline)) return lost();
  char block[65536];
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(end - steady_clock::now());
    if (left.count() <= 0 || !wait_ready(fd_.get(), false, left))
      return fail(ec::timed_out, fmt::format("no answer to {} in {} ms", method, deadline.count()));
    const auto n = ::recv(fd_.get(), block, sizeof block, 0);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n <= 0) return lost();
    for (auto& event : session_.on_bytes({block, static_cast<std::size_t>(n)})) {
      if (auto* answer = std::get_if<rpc_answer>(&event); answer && answer->call == number)
        return std::move(answer->value);
      if (auto* request = std::get_if<rpc_request>(&event))
        session_.answer(*request, fail(ec::no_such_method, "this client serves no methods"));
    }
  }
}

}  // namespace ntrace::net
