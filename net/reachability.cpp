#include "net/reachability.hpp"

#include <curl/curl.h>
#include <netdb.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace ntrace::net {

outage_cause cause_of_lookup(int code) {
  switch (code) {
    case EAI_NONAME:
#ifdef EAI_NODATA
    case EAI_NODATA:
#endif
      return outage_cause::name_unknown;
    default:
      return outage_cause::no_resolver;
  }
}

outage_cause cause_of_socket(int code) {
  switch (code) {
    case ECONNREFUSED:
      return outage_cause::refused;
    case ETIMEDOUT:
    case EAGAIN:
      return outage_cause::silent;
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
      return outage_cause::connection_lost;
    default:
      return outage_cause::no_route;
  }
}

std::optional<outage_cause> cause_of_transfer(const failed_transfer& how) {
  switch (how.code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
      return outage_cause::name_unknown;
    case CURLE_COULDNT_CONNECT:
      return how.socket_error == 0 ? outage_cause::no_route : cause_of_socket(how.socket_error);
    case CURLE_OPERATION_TIMEDOUT:
      if (how.is_whole_deadline_used) return {};
      return outage_cause::silent;
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_SSL_CONNECT_ERROR:
      return outage_cause::connection_lost;
    case CURLE_PEER_FAILED_VERIFICATION:
      return outage_cause::untrusted;
    default:
      return {};
  }
}

error error_of(const http_answer& answer, const std::string& host, const std::string& what) {
  const auto status = answer.status;
  if (status >= 200 && status < 300) return {};
  const auto says = what + " answered " + std::to_string(status);
  const bool is_limited =
      status == 429 ||
      (status == 403 && (answer.is_allowance_used || answer.retry_after.count() > 0));
  if (is_limited) return to_error({host, outage_cause::busy, says, answer.retry_after});
  if (status >= 500 || status == 408 || status == 425)
    return to_error({host, outage_cause::server_error, says, answer.retry_after});
  if (status == 401 || status == 407)
    return {ec::forbidden, says + ": it wants to know who asks, or has no such thing to show", {}};
  if (status == 403 || status == 451) return {ec::forbidden, says + ": access is denied", {}};
  if (status == 404 || status == 410) return {ec::not_found, says, {}};
  return {ec::source_failed, says, {}};
}

result<unique_fd> dial(const host_port& to, milliseconds deadline, const cancellation* stop) {
  socket_addresses addresses;
  if (const int code = look_up(to, 0, addresses); code != 0)
    return fail(to_error({to.host, cause_of_lookup(code),
                          "cannot resolve " + to.host + ": " + ::gai_strerror(code)}));
  int last = EHOSTUNREACH;
  const auto end = steady_clock::now() + deadline;
  for (const auto& at : addresses) {
    unique_fd fd{::socket(at.get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!fd || ::connect(fd.get(), at.get(), at.size) == 0) {
      if (fd) return fd;
      last = errno;
      continue;
    }
    last = errno;
    if (last != EINPROGRESS) continue;
    last = ETIMEDOUT;
    const auto left = std::chrono::ceil<milliseconds>(end - steady_clock::now());
    if (left.count() <= 0) break;
    if (!wait_ready(fd.get(), true, left, stop)) {
      if (stop && stop->is_raised()) return fail(ec::cancelled, "the connection was given up");
      continue;
    }
    socklen_t size = sizeof last;
    ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &last, &size);
    if (last == 0) return fd;
  }
  return fail(to_error({to.host, cause_of_socket(last),
                        "cannot connect to " + to.text() + ": " + std::strerror(last)}));
}

}  // namespace ntrace::net
