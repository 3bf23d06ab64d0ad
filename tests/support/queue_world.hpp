#pragma once
// The queue's machine, and the intake before it, with a journal and runners that do as the test
// says, in virtual time.
#include <gtest/gtest.h>

#include "actors/dispatcher/queue_fsm.hpp"
#include "actors/journal/push_identity.hpp"
#include "actors/rpc/messages/push_messages.hpp"
#include "config/overload.hpp"
#include "tests/support/ok.hpp"

namespace ntrace::test {

using namespace dispatcher;
using namespace std::chrono_literals;
using nlohmann::json;

inline const std::string sha(40, 'a');

/// What was answered. Unlike a result, a test may leave it be.
using heard = tl::expected<json, error>;
inline ec code_of(const heard& answer) { return answer ? ec::none : answer.error().code; }
inline json ok(const heard& answer) { return ok(result<json>{answer}); }

/// Machines with a journal that commits at once, unless told to fail or to hold back.
struct queue_world {
  push_gate gate;
  intake_fsm intake;
  queue_fsm fsm;
  time_point now{};
  std::map<request_id, result<json>> answers;
  std::vector<json> offers;
  std::vector<std::uint64_t> aborted;
  std::vector<journal::operation> written;
  std::vector<commit> held;
  std::vector<write_pushes> held_pushes;
  std::map<std::string, journal::keyed_push> keys;
  std::set<std::string> docs;
  std::uint64_t stored = 0;  ///< Chunks, of all documents together.
  error journal_error;
  bool holds = false;
  request_id next = 1;
  std::uint64_t seq = 0;

  explicit queue_world(queue_options o = options())
      : intake{o.source_template, gate}, fsm{o, 0, 1, gate} {}
  static queue_options options() {
    queue_options o;
    o.lease = 30s;
    o.offer = 2s;
    o.attempts = 3;
    o.backoff = {1000ms, 8000ms};
    o.source_template = "git+file:///m/{owner}/{repo}#{sha}";
    return o;
  }
  void perform(effects todo) {
    for (auto& e : todo)
      std::visit(
          overload{[&](commit& c) { holds ? held.push_back(c) : settle(c); },
                   [&](answer& a) { answers.insert_or_assign(a.request, a.value.map(as_json)); },
                   [&](offer& o) { offers.push_back(to_json(o.run)); },
                   [&](abort_attempt& a) { aborted.push_back(a.token); }, [](wake&) {},
                   [](changed&) {}},
          e);
  }
  void perform(intake_effects todo) {
    for (auto& e : todo)
      std::visit(overload{[&](write_pushes& w) { holds ? held_pushes.push_back(w) : settle(w); },
                          [&](answer_push& a) {
                            answers.insert_or_assign(
                                a.request, a.value
                                               ? result<json>{json::parse(rpc::to_text(*a.value))}
                                               : fail(a.value.error()));
                          }},
                 e);
  }
  void settle(const write_pushes& w) {
    std::vector<result<journal::committed>> outcomes;
    for (const auto& ops : w.batches) outcomes.push_back(outcome_of(ops));
    perform(fsm.on_pushed(now));
    perform(intake.on_written(w.group, outcomes));
  }
  result<journal::committed> outcome_of(const journal::batch& ops) {
    if (journal_error.code != ec::none) return fail(journal_error);
    journal::committed done;
    done.seq = ++seq;
    if (const auto* in = std::get_if<journal::insert_run>(&ops.front())) {
      if (const auto known = keys.find(in->key); known != keys.end()) {
        done.duplicate_of = known->second.run;
        done.differences = journal::push_differences(known->second, *in);
      } else if (!in->key.empty()) {
        keys[in->key] = {in->run, in->has_source, in->run.deadline_ms};
      }
      if (!done.is_void()) gate.add({in->run});
    }
    if (!done.is_void()) written.insert(written.end(), ops.begin(), ops.end());
    return done;
  }
  void settle(const commit& c) {
    if (journal_error.code != ec::none)
      return perform(fsm.on_committed(now, c.tag, fail(journal_error)));
    journal::committed done;
    for (const auto& op : c.ops) {
      if (const auto* put = std::get_if<journal::put_attempt>(&op); put && put->wants_payload)
        done.payload = "";
      if (const auto* doc = std::get_if<journal::append_doc>(&op)) {
        done.is_known = docs.count(doc->doc) != 0;
        done.is_stale = !done.is_known && doc->token == 0;
        if (!done.is_void()) docs.insert(doc->doc);
        done.last_seq = done.is_void() ? 0 : stored += doc->pieces.size();
      }
    }
    if (!done.is_void()) written.insert(written.end(), c.ops.begin(), c.ops.end());
    if (std::holds_alternative<journal::revive>(c.ops.front())) done.last_seq = 1;
    done.seq = ++seq;
    perform(fsm.on_committed(now, c.tag, done));
  }
  void release() {
    holds = false;
    for (const auto& w : std::exchange(held_pushes, {})) settle(w);
    for (const auto& c : std::exchange(held, {})) settle(c);
  }
  request_id push(const std::string& id, const std::string& key = "",
                  const std::string& owner = "o", std::int64_t priority = 0,
                  milliseconds deadline = 0ms) {
    push_request p{owner, "r", sha, key, "", priority, deadline.count(), ""};
    perform(intake.on_push(now, next, p, id, static_cast<std::int64_t>(next)));
    perform(intake.on_round());
    return next++;
  }
  static json as_json(const rpc::answer_value& value) { return to_json(value); }
  request_id hello(session_id s, int workers = 1) {
    const auto asked = next;
    (void)hear(&queue_fsm::on_hello, rpc::parse_runner_report, s,
               {{"version", 1},
                {"name", "n" + std::to_string(s)},
                {"workers", workers},
                {"free", workers}});
    return asked;
  }
  template <class F, class... Args>
  heard call(F method, Args... args) {
    const auto request = next++;
    perform((fsm.*method)(now, args...));
    return answers.count(request) ? answers.at(request) : fail(ec::timed_out, "no answer");
  }
  /// What a runner says on its connection, as the wire has it.
  template <class F, class Message>
  heard hear(F method, result<Message> (*parse)(const json&), session_id s, const json& said) {
    const auto message = parse(said);
    return message ? call(method, s, next, *message) : fail(message.error());
  }
  /// What it says of an attempt, on whichever.
  template <class F, class Message>
  heard hear(F method, result<Message> (*parse)(const json&), const json& said) {
    const auto message = parse(said);
    return message ? call(method, next, *message) : fail(message.error());
  }
  heard heartbeat(session_id s, const json& said) {
    return hear(&queue_fsm::on_heartbeat, rpc::parse_runner_report, s, said);
  }
  heard accept(session_id s, std::uint64_t token) {
    return hear(&queue_fsm::on_accept, rpc::parse_about_token, s, {{"token", token}});
  }
  heard started(std::uint64_t token) {
    return hear(&queue_fsm::on_started, rpc::parse_started, {{"token", token}, {"zone", "z"}});
  }
  heard append(std::uint64_t token, std::uint64_t n) {
    return hear(&queue_fsm::on_append, rpc::parse_append,
                {{"token", token}, {"seq", n}, {"stream", "stdout"}, {"data", "x"}});
  }
  heard finish(const json& said) { return hear(&queue_fsm::on_finish, rpc::parse_finish, said); }
  heard finish(std::uint64_t token, const char* verdict, std::uint64_t last = 0) {
    return finish(
        json{{"token", token}, {"verdict", verdict}, {"reason", "why"}, {"last_seq", last}});
  }
  request_id ask(session_id s, const std::string& address = "10.0.0.1") {
    perform(fsm.on_next(now, s, address, next));
    return next++;
  }
  /// The job that the request was answered with; null while it waits.
  json job(request_id request) const {
    const auto at = answers.find(request);
    return at == answers.end() || !at->second ? json{} : *at->second;
  }
  /// A document of the run_id `run_id`, on another connection of the same peer.
  heard say(const std::string& id, const std::string& run_id, const std::string& stream, json data,
            const std::string& address = "10.0.0.1", session_id s = 999) {
    const json doc{{"id", id},      {"run_id", run_id}, {"when", 1},   {"repo", "o/r"},
                   {"commit", sha}, {"stream", stream}, {"data", data}};
    return say_all(json::array({doc}), address, s);
  }
  /// The arguments of `result` as they are.
  heard say_all(const json& args, const std::string& address = "10.0.0.1", session_id s = 999) {
    const auto doc = rpc::parse_result_doc(args);
    return doc ? call(&queue_fsm::on_result, s, address, next, *doc) : fail(doc.error());
  }
  void pass(milliseconds time) {
    now += time;
    perform(fsm.on_tick(now));
  }
  std::string state_written(const std::string& run) const {
    std::string out;
    for (const auto& op : written)
      if (const auto* s = std::get_if<journal::set_run>(&op); s && s->run == run)
        out = to_string(s->state);
    return out;
  }
};

}  // namespace ntrace::test
