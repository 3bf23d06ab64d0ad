#include "actors/runner/attempt_report.hpp"

#include <array>
#include <nlohmann/json.hpp>

namespace ntrace::runner {
namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 8> names{"rollback", "profiler", "fetch",   "unpack",
                                                "install",  "run",      "capture", "fold"};

std::string message_of(const attempt_event& e) {
  const std::string name{to_string(e.what)};
  if (!e.duration) return name + " started";
  return name + (e.failed.code == ec::none ? " finished" : " failed: " + to_string(e.failed));
}

}  // namespace

std::string_view to_string(step s) { return names[static_cast<std::size_t>(s)]; }

json to_json(const attempt_event& e) {
  const bool is_ok = e.failed.code == ec::none;
  json out{{"level", is_ok ? "info" : "error"},
           {"code", e.duration ? "finish" : "start"},
           {"step", to_string(e.what)},
           {"message", message_of(e)}};
  if (!e.script.empty()) out["script"] = e.script;
  if (e.duration) out["duration_ms"] = e.duration->count();
  if (!is_ok) out["error"] = {{"code", to_string(e.failed.code)}, {"message", e.failed.message}};
  if (e.facts) out["facts"] = *e.facts;
  return out;
}

std::string event_text(const attempt_event& e) { return event_text(domain::document{to_json(e)}); }

std::string event_text(const domain::document& e) {
  return (*e).dump(-1, ' ', false, json::error_handler_t::replace);
}

json to_json(const attempt_receipt& r) {
  auto out = json::object();
  for (const auto& one : r.facts)
    if ((*one).is_object()) out.update(*one);
  for (const auto& [what, lasted] : r.durations)
    out["steps"][std::string{to_string(what)}] = lasted.count();
  if (r.clean) out["clean"] = *r.clean;
  if (!r.script.empty()) out["script"] = r.script;
  if (r.profile_failed) out["profile_failed"] = *r.profile_failed;
  return out;
}

}  // namespace ntrace::runner
