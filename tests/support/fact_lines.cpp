// The facts of a history as lines.
#include "config/overload.hpp"
#include "tests/support/invariants.hpp"

namespace ntrace::test {
namespace {

using namespace domain;

constexpr const char* names[] = {
    "sent",        "acked",         "committed",     "deleted",      "recovered",
    "renewed",     "lease_expired", "verdict_early", "lease_begun",  "zone_begun",
    "zone_proved", "zone_used",     "zone_ended",    "zone_expired", "attempt_over",
    "outage_met",  "outages_kept",  "told_stale",    "cancel_acked", "drain_acked",
    "resume_sent", "doc_acked",     "workers",       "held_bytes",   "child_restarted",
    "crashed",     "quiet",         "finished",      "asserted"};

std::string to_line(const journal::operation& op) {
  return std::visit(
      overload{
          [](const journal::insert_run& o) { return "insert_run " + o.run.id + " " + o.key; },
          [](const journal::set_run& o) {
            return "set_run " + o.run + " " + std::string{to_string(o.state)} + " attempts " +
                   std::to_string(o.attempts) + " token " + std::to_string(o.token) + " " +
                   std::string{word_of(o.verdict)} + " " + o.reason;
          },
          [](const journal::put_attempt& o) {
            return "put_attempt " + o.run + " " + std::to_string(o.number) + " token " +
                   std::to_string(o.token) + " " + o.runner;
          },
          [](const journal::end_attempt& o) {
            return "end_attempt " + o.run + " token " + std::to_string(o.token) + " " +
                   std::string{to_string(o.verdict)} + " " + o.reason;
          },
          [](const journal::set_outages& o) {
            return "set_outages " + o.run + " " + std::to_string(outages_of(o.record)) +
                   (o.record && o.record->is_on() ? " " + o.record->last.host : "");
          },
          [](const journal::revive& o) {
            return "revive " + o.run + " token " + std::to_string(o.token);
          },
          [](const journal::append_chunk& o) {
            return "append_chunk " + o.run + " token " + std::to_string(o.token) + " seq " +
                   std::to_string(o.seq) + " " + std::string{to_string(o.stream)} + " " + o.data;
          },
          [](const journal::bind_run_id& o) {
            return "bind_run_id token " + std::to_string(o.token) + " " + o.run_id;
          },
          [](const journal::append_doc& o) {
            return "append_doc " + o.run + " token " + std::to_string(o.token) + " " + o.doc + " " +
                   std::string{o.stream ? to_string(*o.stream) : "control"};
          },
          [](const journal::set_flag& o) {
            return "set_flag " + o.name + (o.value ? " true" : " false");
          },
          [](const journal::event& o) { return "event " + o.run + " " + o.actor + " " + o.what; }},
      op);
}

}  // namespace

std::string to_line(const fact& f) {
  const auto ms = std::chrono::duration_cast<milliseconds>(f.at.time_since_epoch()).count();
  std::string out = std::to_string(ms) + " " + names[static_cast<std::size_t>(f.kind)];
  for (const auto* part : {&f.who, &f.run, &f.zone, &f.text})
    if (!part->empty()) out += " " + *part;
  if (f.token != 0) out += " token " + std::to_string(f.token);
  for (const auto n : f.n) out += " " + std::to_string(n);
  if (f.kind == fact_kind::committed) out += " " + to_line(f.op);
  for (const auto& r : f.runs)
    out +=
        " [" + r.id + " " + std::string{to_string(r.state)} + " " + std::to_string(r.token) + "]";
  return out;
}

}  // namespace ntrace::test
