#pragma once
// A forge's webhook: what of an HTTP request is a push, and what is answered. Pure.
#include <nlohmann/json.hpp>
#include <string>

#include "config/result.hpp"

namespace ntrace::dashboard {

/// The parts of an HTTP request that matter. Texts of absent headers are empty.
struct webhook_request {
  std::string provider;       ///< The path without its slash: "github".
  std::string event;          ///< X-GitHub-Event; "push" when absent.
  std::string delivery;       ///< X-GitHub-Delivery: the same for each redelivery.
  std::string signature;      ///< X-Hub-Signature-256: "sha256=" and 64 hexadecimal digits.
  std::string content_type;   ///< application/json or application/x-www-form-urlencoded.
  std::string body;           ///< The payload, or a form with the field `payload`.
  bool is_from_page = false;  ///< It has Origin or Sec-Fetch-Site, as only a browser's has.
};

struct webhook_answer {
  int status = 200;
  std::string body = "OK";
  std::string reason{};  ///< For the header X-Ntrace-Error and the log.
};

/// Either the arguments of `push` (docs/protocol.md), or an answer without one: 200 for an event
/// that is no push, 400 `payload:providernotsupported` or `payload:invalid`, 401 for a signature
/// that is not of `secret`, 403 for what a web page sends. An empty secret asks for no signature.
tl::expected<nlohmann::json, webhook_answer> read_webhook(const webhook_request& r,
                                                          const std::string& secret);

/// The answer to a push that the dispatcher refused: 400 for what will never do, 409 for a delivery
/// whose id was used for another push, 503 for what may do later.
webhook_answer refused_webhook(const error& why);

}  // namespace ntrace::dashboard
