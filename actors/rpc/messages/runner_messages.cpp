#include "actors/rpc/messages/runner_messages.hpp"

#include <algorithm>

#include "actors/rpc/messages/stream_data.hpp"
#include "config/json_fields.hpp"
#include "config/json_parse.hpp"
#include "config/limits.hpp"

namespace ntrace::rpc {
namespace {

using nlohmann::json;

constexpr std::size_t id_max = 200;           // of runs, zones and names
constexpr std::size_t words_max = 65'536;     // of a reason: a command's words may stand in it
constexpr std::size_t text_max = 4096;        // of what a runner says of its workers
constexpr std::size_t source_max = 4096;      // as of a push
constexpr std::size_t attempts_max = 10'000;  // of one runner
constexpr std::int64_t term_max_ms = 86'400'000;
constexpr std::int64_t term_min_ms = 20;  // a timer of ours asks no more often

/// The message, unless one of its members is wrong.
template <class Message>
result<Message> sound(json_fields& in, Message m) {
  if (auto read = in.outcome(); !read) return fail(read.error());
  return m;
}

milliseconds term(json_fields& in, std::string_view field, milliseconds otherwise) {
  const auto ms = in.number(field, 0, term_max_ms, otherwise.count());
  return milliseconds{std::max(ms, term_min_ms)};
}

known_attempt read_attempt(json_fields& in) {
  known_attempt out;
  out.token = in.count("token");
  out.run = in.text("run", id_max);
  out.worker = in.text("worker", id_max);
  out.ended = domain::verdict_from(in.text("verdict", id_max));
  return out;
}

}  // namespace

json to_json(const runner_report& m) {
  auto attempts = json::array();
  for (const auto& a : m.attempts) {
    json one{{"token", a.token}, {"run", a.run}};
    if (a.ended)
      one["verdict"] = to_string(*a.ended);
    else
      one["worker"] = a.worker;
    attempts.push_back(std::move(one));
  }
  return {{"version", m.version}, {"name", m.name}, {"workers", m.workers},
          {"free", m.free},       {"text", m.text}, {"attempts", std::move(attempts)}};
}

result<runner_report> parse_runner_report(const json& value) {
  json_fields in{value};
  runner_report m;
  m.version = in.count("version");
  m.name = in.text("name", id_max);
  m.workers = in.count("workers");
  m.free = in.count("free");
  m.text = in.words("text", text_max);
  if (const auto* list = in.list("attempts", attempts_max)) {
    m.attempts.reserve(list->size());
    for (const auto& one : *list) {
      json_fields attempt{one, "attempts"};
      m.attempts.push_back(read_attempt(attempt));
      if (auto read = attempt.outcome(); !read) return fail(read.error());
    }
  }
  return sound(in, std::move(m));
}

json to_json(const hello_answer& m) {
  return {{"version", m.version},
          {"lease_ms", m.lease.count()},
          {"heartbeat_ms", m.heartbeat.count()},
          {"session", m.session}};
}

result<hello_answer> parse_hello_answer(const json& value) {
  json_fields in{value};
  hello_answer m;
  m.version = in.count("version", m.version);
  m.lease = term(in, "lease_ms", m.lease);
  m.heartbeat = term(in, "heartbeat_ms", m.heartbeat);
  m.session = in.count("session");
  return sound(in, m);
}

json to_json(const offer& m) {
  return {{"run", m.run},   {"attempt", m.attempt}, {"token", m.token},  {"owner", m.owner},
          {"repo", m.repo}, {"sha", m.sha},         {"source", m.source}};
}

result<offer> parse_offer(const json& value) {
  json_fields in{value};
  offer m;
  m.run = in.text("run", id_max);
  m.attempt = in.count("attempt", m.attempt);
  m.token = in.count("token");
  m.owner = in.text("owner", id_max);
  m.repo = in.text("repo", id_max);
  m.sha = in.text("sha", id_max);
  m.source = in.text("source", source_max);
  if (m.token == 0) in.refuse("token", "a whole number from 1 on");
  if (m.run.empty()) in.refuse("run", "a run's id");
  return sound(in, std::move(m));
}

json to_json(const about_token& m) { return {{"token", m.token}}; }

result<about_token> parse_about_token(const json& value) {
  json_fields in{value};
  about_token m{in.count("token")};
  return sound(in, m);
}

json to_json(const refuse& m) { return {{"token", m.token}, {"reason", m.reason}}; }

result<refuse> parse_refuse(const json& value) {
  json_fields in{value};
  refuse m{in.count("token"), in.words("reason", words_max)};
  return sound(in, std::move(m));
}

json to_json(const started& m) { return {{"token", m.token}, {"zone", m.zone}}; }

result<started> parse_started(const json& value) {
  json_fields in{value};
  started m{in.count("token"), in.text("zone", id_max)};
  return sound(in, std::move(m));
}

json to_json(const append& m) {
  json out{{"token", m.token}, {"seq", m.seq}, {"stream", to_string(m.stream)}};
  put_chunk_data(out, m.data);
  return out;
}

result<append> parse_append(const json& value) {
  json_fields in{value};
  append m;
  m.token = in.count("token");
  m.seq = in.count("seq");
  const auto stream = domain::stream_from(in.text("stream", id_max));
  if (!stream) in.refuse("stream", "stdout, stderr, events or result");
  if (!in.is_sound()) return fail(in.outcome().error());
  m.stream = *stream;
  auto data = chunk_data(value);
  if (!data) return fail(error{data.error().code, data.error().message, {{"field", "data"}}});
  m.data = std::move(*data);
  if (m.stream == domain::stream::events)
    if (auto said = parse_or_discard(m.data); said.is_object())
      m.event = domain::document{std::move(said)};
  return m;
}

json to_json(const finish& m) {
  json out{{"token", m.token},
           {"verdict", to_string(m.how)},
           {"reason", m.reason},
           {"receipt", *m.receipt}};
  if (m.lost_to) out["outage"] = outage_json(*m.lost_to);
  if (m.last_seq) out["last_seq"] = *m.last_seq;
  return out;
}

result<finish> parse_finish(const json& value) {
  json_fields in{value};
  finish m;
  m.token = in.count("token");
  const auto how = domain::verdict_from(in.text("verdict", id_max));
  if (!how)
    in.refuse("verdict", "passed, script_failed, source_failed, timed_out or infrastructure");
  m.reason = in.words("reason", words_max);
  if (const auto* receipt = in.value("receipt")) m.receipt = domain::document{*receipt};
  if (const auto* lost_to = in.value("outage")) m.lost_to = outage_from(*lost_to);
  // What was lost on the runner's side names no chunks.
  const bool names_chunks = in.has("last_seq") || how != domain::verdict::infrastructure;
  if (names_chunks) m.last_seq = in.count("last_seq");
  if (how) m.how = *how;
  return sound(in, std::move(m));
}

json to_json(const accepted& m) { return {{"lease_ms", m.lease.count()}}; }

json to_json(const heartbeat_answer& m) {
  return {{"lease_ms", m.lease.count()}, {"stale", m.stale}};
}

json to_json(const append_answer& m) { return {{"ack", m.ack}}; }

json to_json(const state_answer& m) {
  json out{{"state", to_string(m.state)}};
  if (!m.run.empty()) out["run"] = m.run;
  return out;
}

json to_json(const ok_answer&) { return {{"ok", true}}; }

result<heartbeat_answer> parse_heartbeat_answer(const json& value) {
  json_fields in{value};
  heartbeat_answer m;
  m.lease = term(in, "lease_ms", m.lease);
  if (const auto* stale = in.list("stale", attempts_max))
    for (const auto& token : *stale) {
      if (!token.is_number_unsigned())
        in.refuse("stale", "a list of tokens");
      else
        m.stale.push_back(token.get<std::uint64_t>());
    }
  return sound(in, std::move(m));
}

result<append_answer> parse_append_answer(const json& value) {
  json_fields in{value};
  append_answer m{in.count("ack")};
  return sound(in, m);
}

}  // namespace ntrace::rpc
