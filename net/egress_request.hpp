#pragma once
// One request of a zone's job to the proxy, and its answer: what of them is passed on. Pure.
// docs/zones.md, "Network".
#include <cstdint>
#include <string>
#include <string_view>

#include "net/http_syntax.hpp"

namespace ntrace::net {

/// The head of one proxy request, as far as the proxy needs it.
struct proxy_request {
  bool is_connect = false;
  std::string method;
  std::string host;  ///< Lower case.
  std::uint16_t port = 0;
  std::string forward_head;     ///< absolute-form: the head to send upstream.
  http_body body;               ///< What follows the head and is passed on; nothing behind it is.
  bool wants_continue = false;  ///< It sends its body once it is told "100 Continue".
};

/// Parses a whole head (up to and including the blank line): CONNECT with host and port, or GET,
/// HEAD and POST of an http:// URI. ec::bad_request names the rule that it breaks.
result<proxy_request> parse_proxy_head(std::string_view head);

/// The head of the registry's answer, as far as the proxy needs it.
struct proxy_answer {
  int status = 0;
  std::string forward_head;
  http_body body;
  /// 1xx: it is dropped, and another head follows.
  bool is_interim() const { return status < 200; }
};

/// Parses the head of the answer to `method`. ec::bad_request for what is malformed or ambiguous,
/// and for 101, which would make a way of the connection for anything.
result<proxy_answer> parse_proxy_answer(std::string_view head, std::string_view method);

}  // namespace ntrace::net
