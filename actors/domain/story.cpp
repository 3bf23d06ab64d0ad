#include "actors/domain/story.hpp"

#include "config/overload.hpp"

namespace ntrace::domain::story {
namespace {

using nlohmann::json;

/// Of a line whose cause ended an attempt or run.
std::string_view actor_of(end_cause c) {
  switch (c) {
    case end_cause::verdict:
      return "attempt";
    case end_cause::lease_expired:
      return "lease";
    case end_cause::peer_left:
      return "consumer";
    case end_cause::cancelled:
      return "queue";
    case end_cause::deadline:
      return "deadline";
  }
  return "queue";
}

json detail_of(const accepted& l) {
  json out{{"runner", l.runner}, {"attempts_max", l.attempts_max}};
  if (!l.run_id.empty()) out["run_id"] = l.run_id;
  if (!l.joined.empty()) out["joined"] = l.joined;
  return out;
}

json detail_of(const ended& l) {
  json out{{"verdict", to_string(l.how)}, {"reason", l.reason}, {"state", to_string(l.state)}};
  if (!is_terminal(l.state)) {
    out["retry_in_ms"] = l.retry_in.count();
    out["attempts_max"] = l.attempts_max;  // By which that was decided.
  }
  if (l.cause == end_cause::verdict) out["chunks"] = l.chunks;
  if (l.lost_to) out["outage"] = outage_json(*l.lost_to);
  return out;
}

json detail_of(const push_refused& l) {
  json out{{"code", to_string(l.why.code)}, {"reason", l.why.message}};
  if (!l.push) return out;
  out["owner"] = l.push->owner;
  out["repo"] = l.push->repo;
  out["sha"] = l.push->sha;
  if (!l.push->key.empty()) out["key"] = l.push->key;
  return out;
}

}  // namespace

stored_line to_stored(const line& l) {
  const auto one =
      overload{[](const offered& x) {
                 return stored_line{"queue", "offered", {{"runner", x.runner}}};
               },
               [](const handed& x) {
                 return stored_line{"queue", "handed", {{"consumer", x.consumer}}};
               },
               [](const refused& x) {
                 return stored_line{"queue", "refused", {{"reason", x.reason}}};
               },
               [](const accepted& x) {
                 return stored_line{"lease", "accepted", detail_of(x)};
               },
               [](const started& x) {
                 return stored_line{"attempt", "started", {{"zone", x.zone}}};
               },
               [](const step& x) {
                 return stored_line{"attempt", "step", *x.said};
               },
               [](const revived&) {
                 return stored_line{"lease", "revived", nullptr};
               },
               [](const ended& x) {
                 return stored_line{actor_of(x.cause),
                                    is_terminal(x.state) ? "ended" : "attempt_ended", detail_of(x)};
               },
               [](const cancelled&) {
                 return stored_line{"queue", "cancelled", nullptr};
               },
               [](const requeued&) {
                 return stored_line{"queue", "requeued", nullptr};
               },
               [](const push_refused& x) {
                 return stored_line{"intake", "push_refused", detail_of(x)};
               }};
  return std::visit(one, l);
}

}  // namespace ntrace::domain::story
