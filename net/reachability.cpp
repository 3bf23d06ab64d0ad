#include "net/reachability.hpp"

#include <curl/curl.h>
#include <fmt/core.h>
#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace ntrace::net {

namespace {

/// This machine has nothing left to connect with.
bool is_local_shortage(int code) {
  switch (code) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EADDRNOTAVAIL:
      return true;
    default:
      return false;
  }
}

/// Connected, or the errno of that.
int connect_within(const unique_fd& fd, const socket_address& at, milliseconds deadline,
                   const cancellation* stop) {
  if (::connect(fd.get(), at.get(), at.size) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  if (!wait_ready(fd.get(), true, deadline, stop)) return ETIMEDOUT;
  int code = 0;
  socklen_t size = sizeof code;
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &code, &size);
  return code;
}

}  // namespace

std::optional<outage_cause> cause_of_lookup(int code, int errno_value) {
  // The C library says any code when it cannot open a file or a socket, EAI_NONAME too.
  if (code == EAI_MEMORY || is_local_shortage(errno_value)) return {};
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

std::optional<outage_cause> cause_of_socket(int code) {
  if (is_local_shortage(code)) return {};
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
      if (how.socket_error == 0) return outage_cause::no_route;
      return cause_of_socket(how.socket_error);
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
  const auto says = fmt::format("{} answered {}", what, status);
  const bool is_limited =
      status == 429 ||
      (status == 403 && (answer.is_allowance_used || answer.retry_after.count() > 0));
  if (is_limited) return to_error({host, outage_cause::busy, says, answer.retry_after});
  if (status >= 500 || status == 408 || status == 425)
    return to_error({host, outage_cause::server_error, says, answer.retry_after});
  if (status == 401 || status == 407)
    return {ec::forbidden,
            says +
                ": the server asks for credentials, or hides what is not public; make the "
                "repository readable for the runner",
            {}};
  if (status == 403 || status == 451) return {ec::forbidden, says + ": access is denied", {}};
  if (status == 404 || status == 410) return {ec::not_found, says, {}};
  if (status >= 400)
    return {ec::bad_argument,
            says + ": the server refuses the request as it is; check the address of the source",
            {}};
  return {ec::source_failed, says, {}};
}

error lookup_error(const std::string& host, int code, int errno_value) {
  const auto cause = cause_of_lookup(code, errno_value);
  if (!cause) return io_error("look up", host, code == EAI_MEMORY ? ENOMEM : errno_value);
  return to_error({host, *cause, fmt::format("cannot resolve {}: {}", host, ::gai_strerror(code))});
}

result<unique_fd> dial_one(const host_port& to, const socket_addresses& addresses,
                           milliseconds deadline, const cancellation* stop) {
  const auto end = steady_clock::now() + deadline;
  int last = EHOSTUNREACH;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    const auto& at = addresses[i];
    const auto left = std::chrono::ceil<milliseconds>(end - steady_clock::now());
    if (i > 0 && left.count() <= 0) break;
    const auto share = std::max(left, milliseconds{0}) / (addresses.size() - i);
    unique_fd fd{::socket(at.get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    const int code = fd ? connect_within(fd, at, share, stop) : errno;
    if (code == 0) return fd;
    if (stop && stop->is_raised()) return fail(ec::cancelled, "the connection was given up");
    // What one address says of the host outweighs that another could not be asked.
    if (i == 0 || !is_local_shortage(code)) last = code;
  }
  const auto cause = cause_of_socket(last);
  if (!cause) return fail(io_error("connect to", to.text(), last));
  return fail(to_error(
      {to.host, *cause, fmt::format("cannot connect to {}: {}", to.text(), std::strerror(last))}));
}

result<unique_fd> dial(const host_port& to, milliseconds deadline, const cancellation* stop) {
  socket_addresses addresses;
  errno = 0;
  if (const int code = look_up(to, 0, addresses); code != 0)
    return fail(lookup_error(to.host, code, errno));
  return dial_one(to, addresses, deadline, stop);
}

}  // namespace ntrace::net
