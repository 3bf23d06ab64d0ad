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
};

/// The body of a 200 answer; at most 5 redirects, https only. ec::source_failed with the status or
/// curl's own words, ec::source_limit above bytes_max, ec::cancelled. Blocks.
result<std::string> fetch_url(const http_get& request, const cancellation* stop = nullptr);

}  // namespace ntrace::net
