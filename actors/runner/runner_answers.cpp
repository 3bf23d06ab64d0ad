#include "actors/runner/runner_answers.hpp"

#include <nlohmann/json.hpp>

#include "config/json_fields.hpp"

namespace ntrace::runner {

using nlohmann::json;

json to_json(const worker& w) {
  return {{"uuid", w.uuid},
          {"state", zone::to_string(w.zone.state())},
          {"run", w.run},
          {"restarts", w.zone.breaks()},
          {"problem", w.zone.problem()},
          {"last_clean", *w.last_clean},
          {"enrolled_ms", w.enrolled_ms}};
}

json to_json(const std::vector<worker>& all) {
  auto out = json::array();
  for (const auto& w : all) out.push_back(to_json(w));
  return out;
}

json to_json(const runner_status& s) {
  auto out = rpc::to_json(s.report);
  out["draining"] = s.is_draining;
  out["linked"] = s.is_linked;
  out["gauges"] = s.gauges;
  return out;
}

json to_json(const received_answer&) { return {{"received", true}}; }

json to_json(const expelled_answer& a) { return {{"uuid", a.uuid}, {"expelled", true}}; }

result<expel_options> parse_expel_options(const json& value) {
  json_fields in{value};
  const expel_options out{in.flag("abort")};
  if (auto read = in.outcome(); !read) return fail(read.error());
  return out;
}

}  // namespace ntrace::runner
