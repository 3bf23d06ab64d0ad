#include "actors/rpc/messages/client_messages.hpp"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "config/json_fields.hpp"

namespace ntrace::rpc {
namespace {

using nlohmann::json;

constexpr std::size_t text_max = 300;         // of a filter
constexpr std::int64_t wait_max_ms = 30'000;  // a long poll is answered at the latest then
constexpr auto any = std::numeric_limits<std::int64_t>::max();

/// The options at `place`; none when there is no object.
const json& options_at(const json& args, std::size_t place) {
  static const json none = json::object();
  return args.size() > place && args[place].is_object() ? args[place] : none;
}

}  // namespace

result<domain::runs_query> parse_runs(const json& args) {
  json_fields in{options_at(args, 0)};
  domain::runs_query out;
  out.repo = in.text("repo", text_max);
  out.state = in.text("state", text_max);
  out.before = in.text("before", text_max);
  out.after = in.text("after", text_max);
  out.since_ms = in.number("since_ms", -any, any);
  out.limit = std::clamp<std::int64_t>(in.number("limit", -any, any, out.limit), 1,
                                       domain::runs_query::limit_max);
  if (auto read = in.outcome(); !read) return fail(read.error());
  return out;
}

result<std::string> parse_run(const json& args) {
  const json first = args.empty() ? json() : args[0];
  if (first.is_string()) return first.get<std::string>();
  if (first.is_object() && first.contains("run") && first["run"].is_string())
    return first["run"].get<std::string>();
  return fail(error{ec::bad_argument, "the first argument must be a run's id", {{"field", "run"}}});
}

result<logs> parse_logs(const json& args) {
  auto run = parse_run(args);
  if (!run) return fail(run.error());
  json_fields in{options_at(args, 1)};
  logs out;
  out.what.run = std::move(*run);
  out.what.after = in.count("after");
  out.what.stream = in.text("stream", text_max);
  out.wait =
      milliseconds{std::clamp<std::int64_t>(in.number("wait_ms", -any, any), 0, wait_max_ms)};
  if (in.has("outage_tries")) out.outage_tries = in.count("outage_tries");
  if (auto read = in.outcome(); !read) return fail(read.error());
  return out;
}

}  // namespace ntrace::rpc
