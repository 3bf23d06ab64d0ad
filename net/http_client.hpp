#pragma once
// HTTPS downloads for sources, by libcurl: bounded, cancellable, certificates always verified.
#include <string>

#include "config/cancellation.hpp"
#include "config/clock.hpp"
#include "config/result.hpp"

namespace ntrace::net {

struct http_get {
  std::string url;      ///< https:// only (http:// for 127.0.0.1).
  std::string ca_file;  ///< Empty: the system's.
  std::size_t bytes_max = 0;
  milliseconds deadline{60'000};
  /// Only how it is answered counts: http:// too, also by a redirect, as git asks; without a proxy;
  /// no body is read.
  bool is_question = false;
};

/// The body of a 200 answer; at most 5 redirects, https only. Errors: an outage
/// (config/outage.hpp), ec::not_found, ec::forbidden, ec::bad_argument,
/// ec::io for a shortage of this machine, ec::timed_out when it came too slowly,
/// ec::source_limit above bytes_max, ec::cancelled, and ec::source_failed for what cannot be used.
/// Blocks.
result<std::string> fetch_url(const http_get& request, const cancellation* stop = nullptr);

}  // namespace ntrace::net
