#include "net/json_rpc.hpp"

namespace ntrace::net {
namespace {

/// The last element of a valid JSON array, as it was written.
std::string_view last_element(std::string_view line) {
  constexpr std::string_view blank = " \t\r\n";
  auto end = line.find_last_of(']');
  end = line.find_last_not_of(blank, end - 1);
  auto begin = end;
  if (line[end] == '"') {
    // Back to the opening quote: one that an even number of backslashes precedes.
    while (begin > 0) {
      --begin;
      if (line[begin] != '"') continue;
      std::size_t slashes = 0;
      while (slashes < begin && line[begin - 1 - slashes] == '\\') ++slashes;
      if (slashes % 2 == 0) break;
    }
  } else {
    begin = line.find_last_of(", \t[", end) + 1;
  }
  return line.substr(begin, end - begin + 1);
}

rpc_malformed bad(std::string message, rpc_id id = "null") {
  return {{ec::bad_request, std::move(message), {}}, std::move(id)};
}

rpc_line interpret(json value, std::string_view line) {
  if (!value.is_array())
    return bad("a line must be a JSON array: [name, [args…], id] or [[err, result…], id]");
  if (value.size() < 2 || value.size() > 3)
    return bad(
        "an array of " + std::to_string(value.size()) +
        " elements is neither a request [name, [args…], id] nor a reply [[err, result…], id]");
  const auto& id = value.back();
  if (!id.is_number() && !id.is_string()) return bad("the id must be a number or a string");
  const rpc_id raw{last_element(line)};
  auto& head = value.front();
  if (value.size() == 2 || head.is_null() || head.is_array()) {
    // The prototype's library takes an absent or null first element for a reply too.
    rpc_reply reply;
    reply.id = raw;
    if (head.is_array() && !head.empty()) {
      reply.err = head.front();
      for (auto at = head.begin() + 1; at != head.end(); ++at)
        reply.results.push_back(std::move(*at));
    } else if (!head.is_array() && !head.is_null()) {
      return bad("a reply's first element must be an array [err, result…]", raw);
    }
    return reply;
  }
  if (!head.is_string()) return bad("a request's first element must be the method's name", raw);
  if (!value[1].is_array())
    return bad("a request's second element must be the array of arguments", raw);
  const bool wants_reply = !(id.is_number() && id.get<double>() == -1.0);
  return rpc_request{std::move(head.get_ref<std::string&>()), std::move(value[1]), raw,
                     wants_reply};
}

}  // namespace

rpc_line parse_line(std::string_view line) {
  auto parsed = parse_json(line);
  if (!parsed) return bad(std::move(parsed.error().message));
  return interpret(std::move(*parsed), line);
}

std::string format_request(std::string_view method, const json& args, const rpc_id& id) {
  return "[" + to_text(json{method}[0]) + "," + to_text(args) + "," + id + "]\n";
}

void append_reply(std::string& out, std::string_view result, const rpc_id& id) {
  constexpr std::string_view begin = "[[null,", middle = "],", end = "]\n";
  out.reserve(out.size() + begin.size() + result.size() + middle.size() + id.size() + end.size());
  out.append(begin).append(result).append(middle).append(id).append(end);
}

std::string format_error(const error& e, const rpc_id& id) {
  return "[[" + to_text(to_json(e)) + "]," + id + "]\n";
}

result<std::string> to_text(const result<json>& value) {
  return value ? result<std::string>{to_text(*value)} : fail(value.error());
}

std::string to_text(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

json to_json(const error& e) {
  json out{{"message", e.message}, {"code", to_string(e.code)}};
  for (const auto& [key, value] : e.facts) out[key] = value;
  return out;
}

error error_from_json(const json& value) {
  error out;
  if (value.is_string()) return {ec::defect, value.get<std::string>(), {}};
  if (!value.is_object()) return {ec::defect, value.dump(), {}};
  out.code = ec_from_string(value.value("code", ""));
  if (out.code == ec::none) out.code = ec::defect;
  const auto message = value.find("message");
  out.message =
      message != value.end() && message->is_string() ? message->get<std::string>() : value.dump();
  for (const auto& [key, fact] : value.items())
    if (key != "message" && key != "code" && fact.is_string())
      out.facts.emplace_back(key, fact.get<std::string>());
  return out;
}

}  // namespace ntrace::net
