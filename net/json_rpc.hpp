#pragma once
// One line of the wire: request [name, [args…], id] or reply [[err, result…], id].
// docs/protocol.md, "Framing".
#include <string>
#include <string_view>
#include <variant>

#include "net/json_text.hpp"

namespace ntrace::net {

/// The caller's id exactly as it was written (a JSON number or string), so that it is echoed
/// byte for byte; "null" when there is none.
using rpc_id = std::string;

struct rpc_request {
  std::string method;
  json args = json::array();
  rpc_id id;
  bool wants_reply = true;  ///< False for id -1.
};

struct rpc_reply {
  json err;                      ///< null on success.
  json results = json::array();  ///< What follows err.
  rpc_id id;
};

/// A line that is neither; `id` is what the error reply names.
struct rpc_malformed {
  error why;
  rpc_id id = "null";
};

using rpc_line = std::variant<rpc_request, rpc_reply, rpc_malformed>;

/// Parses one line without its end. Never throws; cost linear in the line.
rpc_line parse_line(std::string_view line);

/// The lines to send, with the final newline.
std::string format_request(std::string_view method, const json& args, const rpc_id& id);
std::string format_error(const error& e, const rpc_id& id);
/// Adds the line of an answer to `out`. `result`: as JSON text.
void append_reply(std::string& out, std::string_view result, const rpc_id& id);

/// A value as the wire has it. A byte that is no UTF-8 becomes U+FFFD: one that came from a job
/// must not end a whole reply.
std::string to_text(const json& value);
/// The same of a value that may be missing.
result<std::string> to_text(const result<json>& value);

/// An error as the wire has it: {"message", "code", facts…}; and back.
json to_json(const error& e);
error error_from_json(const json& value);

}  // namespace ntrace::net
