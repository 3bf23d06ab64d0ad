#include "actors/dispatcher/queue_status.hpp"

#include <nlohmann/json.hpp>

namespace ntrace::dispatcher {
namespace {

using nlohmann::json;

json to_json(const queue_status::runner& r) {
  return {{"session", r.session}, {"name", r.name}, {"workers", r.workers}, {"free", r.free}};
}

json to_json(const queue_status::lease& l) {
  return {{"run", l.run},
          {"runner", l.runner},
          {"token", l.token},
          {"attempt", l.attempt},
          {"expires_in_ms", l.expires_in.count()}};
}

json to_json(const queue_status::host& h) {
  return {{"host", h.name},
          {"cause", to_string(h.cause)},
          {"since_ms", h.since_ms},
          {"runs", h.runs},
          {"next_try_in_ms", h.next_try_in.count()}};
}

json list_of(const auto& all) {
  auto out = json::array();
  for (const auto& one : all) out.push_back(to_json(one));
  return out;
}

}  // namespace

json to_json(const queue_status& s) {
  return {{"draining", s.is_draining},
          {"waiting", s.waiting},
          {"open", s.open},
          {"pushes_refused", s.pushes_refused},
          {"refusals_not_recorded", s.refusals_not_recorded},
          {"runners", list_of(s.runners)},
          {"outages", list_of(s.outages)},
          {"leases", list_of(s.leases)}};
}

}  // namespace ntrace::dispatcher
