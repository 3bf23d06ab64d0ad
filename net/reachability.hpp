#pragma once
// Tells what a failed look-up, connection, transfer or answer means: an outage, which is waited
// for, or a definite answer. By codes alone, never by words.
#include <optional>

#include "config/outage.hpp"
#include "net/socket.hpp"

namespace ntrace::net {

/// Of a code of getaddrinfo(3), other than 0, and of the errno that it left. A name that is not
/// known is an outage too: a resolver that lost its network says the same. nullopt: this machine
/// has no memory, descriptors or ports left, which says nothing of the host.
std::optional<outage_cause> cause_of_lookup(int code, int errno_value);
/// Of the errno of a socket, connect, send or receive; nullopt as above.
std::optional<outage_cause> cause_of_socket(int code);
/// An outage, or ec::io where the cause is nullopt.
error lookup_error(const std::string& host, int code, int errno_value);

/// How a transfer of libcurl failed.
struct failed_transfer {
  int code = 0;                         ///< CURLcode, not CURLE_OK.
  int socket_error = 0;                 ///< errno of the connect; 0: none.
  bool is_whole_deadline_used = false;  ///< Something came all the time, and too slowly.
};
/// nullopt: our own mistake, or an answer that cannot be used.
std::optional<outage_cause> cause_of_transfer(const failed_transfer& how);

/// What an HTTP answer means.
struct http_answer {
  long status = 0;
  milliseconds retry_after{0};
  bool is_allowance_used = false;  ///< `x-ratelimit-remaining: 0`.
};
/// What the answer means for `host`: nothing for a 2xx. An outage for 5xx, 408, 425, 429 and for a
/// 403 that says when to come again; ec::forbidden (401, 403, 407, 451), ec::not_found (404, 410),
/// ec::bad_argument for any other 4xx, or ec::source_failed for all others.
error error_of(const http_answer& answer, const std::string& host, const std::string& what);

/// Connects to one of `addresses`, which are those of `to`. Each is tried: it gets its share of the
/// time that is left. The error is an outage, ec::io where it was this machine's own shortage, or
/// ec::cancelled.
result<unique_fd> dial_one(const host_port& to, const socket_addresses& addresses,
                           milliseconds deadline, const cancellation* stop);
/// The same, after a look-up.
result<unique_fd> dial(const host_port& to, milliseconds deadline, const cancellation* stop);

}  // namespace ntrace::net
