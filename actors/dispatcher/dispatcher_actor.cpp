#include "actors/dispatcher/dispatcher_state.hpp"

#include <caf/stateful_actor.hpp>

#include <algorithm>

#include "actors/dispatcher/stream_data.hpp"
#include "actors/journal/journal_monitor_actor.hpp"
#include "actors/rpc/serve_tree.hpp"
#include "config/clock.hpp"
#include "config/crash_point.hpp"
#include "config/gauges.hpp"
#include "config/limits.hpp"
#include "config/log.hpp"
#include "config/overload.hpp"
#include "supervision/caf_types.hpp"
#include "supervision/supervisor_actor.hpp"

namespace ntrace::dispatcher {
namespace {

using nlohmann::json;
using rpc::call;
using rpc::deny;
using rpc::give;
using rpc::served;
using supervision::now_of;
using supervision::to_caf;

constexpr milliseconds watch_max{30'000};   // a long poll is answered at the latest then
constexpr std::size_t watchers_max = 4096;  // of all runs together

void look(dispatcher_self self, const watcher& w);

request_id remember(dispatcher_self self, const caf::response_promise& promise) {
  const auto id = self->state.next_request++;
  self->state.requests.emplace(id, promise);
  return id;
}

void settle(dispatcher_self self, request_id request, result<json> value) {
  const auto at = self->state.requests.find(request);
  if (at == self->state.requests.end()) return;
  auto promise = std::move(at->second);
  self->state.requests.erase(at);
  crash_point("dispatcher.before_answer");
  if (value) return promise.deliver(served{std::move(*value)});
  if (value.error().code == ec::stale_lease) ++gauges::value("dispatcher_stale_refused");
  promise.deliver(to_caf(value.error()));
}

void wake_watchers(dispatcher_self self, const std::string& run) {
  const auto [begin, end] = self->state.watchers.equal_range(run);
  std::vector<watcher> due;
  for (auto at = begin; at != end; ++at) due.push_back(at->second);
  self->state.watchers.erase(begin, end);
  for (const auto& w : due) look(self, w);
}

}  // namespace

void perform(dispatcher_self self, effects todo) {
  auto& state = self->state;
  for (auto& one : todo) {
    std::visit(
        overload{
            [&](commit& e) {
              // What is in the mailbox before this message goes with it.
              if (state.writes.empty()) self->send(self, flush_atom::value);
              state.write_tags.push_back(e.tag);
              state.writes.push_back(std::move(e.ops));
            },
            [&](answer& e) { settle(self, e.request, std::move(e.value)); },
            [&](offer& e) {
              crash_point("dispatcher.before_offer");
              self->send(state.parts.server, rpc::notify{e.session, "offer", json::array({e.run})});
            },
            [&](abort_attempt& e) {
              self->send(state.parts.server,
                         rpc::notify{e.session, "abort", json::array({json{{"token", e.token}}})});
            },
            [&](wake& e) {
              if (!state.timer.set(e.at)) return;
              self->delayed_send(self, std::max(time_point::duration{0}, e.at - now_of(self)),
                                 tick_atom::value);
            },
            [&](changed& e) { wake_watchers(self, e.run); }},
        one);
  }
  static auto& open_runs = gauges::value("queue_open_runs");
  open_runs = static_cast<std::int64_t>(state.fsm->open_runs());
}

void take_pushed(dispatcher_self self) {
  auto& state = self->state;
  if (state.fsm && !state.parts.gate->is_empty()) perform(self, state.fsm->on_pushed(now_of(self)));
}

namespace {

void flush(dispatcher_self self) {
  auto& state = self->state;
  journal::write_request all{std::exchange(state.writes, {})};
  auto tags = std::make_shared<std::vector<std::uint64_t>>(std::exchange(state.write_tags, {}));
  self->request(state.parts.journal, caf::infinite, std::move(all))
      .then(
          [self, tags](const journal::written& done) {
            for (std::size_t i = 0; i < tags->size(); ++i)
              perform(self,
                      self->state.fsm->on_committed(now_of(self), (*tags)[i], done.outcomes.at(i)));
          },
          [self, tags](const caf::error& why) {
            auto e = supervision::from_caf(why);
            // Whether a dying writer had committed is not known: nobody is told yes.
            if (e.code == ec::child_failed)
              e = {ec::journal_failed, "the journal restarts; try again", {}};
            for (const auto tag : *tags)
              perform(self, self->state.fsm->on_committed(now_of(self), tag, fail(e)));
          });
}

void read(dispatcher_self self, const caf::response_promise& promise, const char* what,
          const json& args, const std::function<void(json&)>& finish = {}) {
  self->request(self->state.parts.reader, std::chrono::seconds{30},
                journal::read_request{what, args})
      .then(
          [promise, finish](const journal::read_answer& got) {
            auto value = got.value;
            if (finish) finish(value);
            give(promise, std::move(value));
          },
          [promise](const caf::error& e) { deny(promise, e); });
}

/// To what the journal tells of a run that waits for an outage's end: until when it does.
void add_wait(dispatcher_self self, const std::string& run, json& told) {
  if (!told.contains("outage")) return;
  if (auto text = self->state.fsm->waits_for(now_of(self), run); !text.empty())
    told["waits_for"] = std::move(text);
}

/// Answers a `logs` request when there is something new or the run has ended; else waits for it.
void look(dispatcher_self self, const watcher& w) {
  self->request(self->state.parts.reader, std::chrono::seconds{30},
                journal::read_request{"logs", w.args})
      .then(
          [self, w](const journal::read_answer& got) {
            auto value = got.value;
            const auto run = w.args.value("run", "");
            const auto tries = value.value("outage", json::object()).value("tries", 0);
            const bool is_news = !value["chunks"].empty() ||
                                 w.args.value("outage_tries", tries) != tries ||
                                 is_terminal(run_state_from(value.value("state", "")));
            if (!is_news && now_of(self) < w.until && self->state.watchers.size() < watchers_max) {
              auto again = w;
              if (!std::exchange(again.has_timer, true))
                self->delayed_send(self, std::chrono::ceil<milliseconds>(w.until - now_of(self)),
                                   tick_atom::value, run);
              self->state.watchers.emplace(run, std::move(again));
              return;
            }
            for (auto& chunk : value["chunks"]) wire_chunk(chunk);
            add_wait(self, run, value);
            give(w.promise, std::move(value));
          },
          [w](const caf::error& e) { deny(w.promise, e); });
}

result<std::string> run_of(const json& args) {
  const json first = args.empty() ? json() : args[0];
  if (first.is_string()) return first.get<std::string>();
  if (first.is_object() && first.contains("run") && first["run"].is_string())
    return first["run"].get<std::string>();
  return fail(error{ec::bad_argument, "the first argument must be a run's id", {{"field", "run"}}});
}

json object_of(const json& args, std::size_t i) {
  return i < args.size() && args[i].is_object() ? args[i] : json::object();
}

using method = std::function<void(dispatcher_self, const caf::response_promise&, const call&)>;

/// For methods whose one argument is an object from a runner.
template <class F>
method from_runner(F f) {
  return [f](dispatcher_self self, const caf::response_promise& promise, const call& c) {
    const auto request = remember(self, promise);
    if (c.args.size() != 1 || !c.args[0].is_object())
      return settle(self, request, fail(ec::bad_argument, c.method + " takes one object"));
    try {
      perform(self, f(*self->state.fsm, now_of(self), c.peer, request, c.args[0]));
    } catch (const json::exception& e) {
      // An ill-typed member: the peer's mistake, which must not end the dispatcher.
      settle(self, request, fail(ec::bad_argument, c.method + ": " + e.what()));
    }
  };
}

/// For methods about one run.
template <class F>
method about_run(F f) {
  return [f](dispatcher_self self, const caf::response_promise& promise, const call& c) {
    const auto run = run_of(c.args);
    if (!run) return settle(self, remember(self, promise), fail(run.error()));
    f(self, promise, c, *run);
  };
}

void requeue(dispatcher_self self, const caf::response_promise& promise, const std::string& run) {
  self->request(self->state.parts.reader, std::chrono::seconds{30},
                journal::read_request{"show", {{"run", run}}})
      .then(
          [self, promise](const journal::read_answer& got) {
            const auto& v = got.value;
            run_row row;
            row.id = v.value("run", "");
            row.owner = v.value("owner", "");
            row.repo = v.value("repo", "");
            row.sha = v.value("sha", "");
            row.source = v.value("source", "");
            row.priority = v.value("priority", std::int64_t{0});
            row.state = run_state_from(v.value("state", ""));
            row.created_ms = v.value("created_ms", std::int64_t{0});
            perform(self, self->state.fsm->on_requeue(now_of(self), remember(self, promise),
                                                      std::move(row)));
          },
          [promise](const caf::error& e) { deny(promise, e); });
}

void tell_status(dispatcher_self self, const caf::response_promise& promise) {
  auto status = self->state.fsm->status(now_of(self));
  const auto count = [self, promise, status](const json& invariants) {
    read(self, promise, "counts", json::object(), [status, invariants](json& v) {
      auto all = status;
      all["runs"] = v;
      all["invariants"] = invariants;
      all["gauges"] = gauges::snapshot();
      v = std::move(all);
    });
  };
  self->request(self->state.parts.monitor, std::chrono::seconds{2}, journal::findings_atom::value)
      .then([count](const journal::read_answer& found) { count(found.value); },
            // The monitor's failure must not hide the rest.
            [count](const caf::error& e) {
              count(json{{"error", to_string(supervision::from_caf(e))}});
            });
}

const std::map<std::string, method>& methods() {
  using fsm = queue_fsm;
  using std::uint64_t;
  static const std::map<std::string, method> table{
      {"hello", from_runner([](fsm& f, time_point now, uint64_t s, request_id r, const json& a) { return f.on_hello(now, s, r, a); })},
      {"accept", from_runner([](fsm& f, time_point now, uint64_t s, request_id r, const json& a) { return f.on_accept(now, s, r, a); })},
      {"refuse", from_runner([](fsm& f, time_point now, uint64_t s, request_id r, const json& a) { return f.on_refuse(now, s, r, a); })},
      {"started", from_runner([](fsm& f, time_point now, uint64_t, request_id r, const json& a) { return f.on_started(now, r, a); })},
      {"heartbeat", from_runner([](fsm& f, time_point now, uint64_t s, request_id r, const json& a) { return f.on_heartbeat(now, s, r, a); })},
      {"append", from_runner([](fsm& f, time_point now, uint64_t, request_id r, const json& a) -> effects {
         auto data = chunk_data(a);
         if (!data) return {answer{r, fail(data.error())}};
         return f.on_append(now, r, a, std::move(*data));
       })},
      {"finish", from_runner([](fsm& f, time_point now, uint64_t, request_id r, const json& a) { return f.on_finish(now, r, a); })},
      {"next", [](dispatcher_self self, const caf::response_promise& promise, const call& c) {
         perform(self, self->state.fsm->on_next(now_of(self), c.peer, c.address, remember(self, promise)));
       }},
      {"result", [](dispatcher_self self, const caf::response_promise& promise, const call& c) {
         perform(self, self->state.fsm->on_result(now_of(self), c.peer, c.address, remember(self, promise), c.args));
       }},
      {"runs", [](dispatcher_self self, const caf::response_promise& p, const call& c) {
         read(self, p, "runs", object_of(c.args, 0), [self](json& v) {
           for (auto& r : v) add_wait(self, r.value("run", ""), r);
         });
       }},
      {"show", about_run([](dispatcher_self self, const caf::response_promise& p, const call&, const std::string& run) { read(self, p, "show", {{"run", run}}); })},
      {"why", about_run([](dispatcher_self self, const caf::response_promise& p, const call&, const std::string& run) {
         read(self, p, "why", {{"run", run}}, [self, run](json& v) {
           if (const auto text = self->state.fsm->waits_for(now_of(self), run); !text.empty()) v["waits_for"] = text;
         });
       })},
      {"logs", about_run([](dispatcher_self self, const caf::response_promise& p, const call& c, const std::string& run) {
         auto args = object_of(c.args, 1);
         args["run"] = run;
         if (args.contains("outage_tries")) args["outage_tries"] = args.value("outage_tries", 0);
         const auto wait = std::clamp<std::int64_t>(args.value("wait_ms", std::int64_t{0}), 0, watch_max.count());
         look(self, {self->state.next_request++, p, args, now_of(self) + milliseconds{wait}});
       })},
      {"cancel", about_run([](dispatcher_self self, const caf::response_promise& p, const call&, const std::string& run) {
         perform(self, self->state.fsm->on_cancel(now_of(self), remember(self, p), run));
       })},
      {"requeue", about_run([](dispatcher_self self, const caf::response_promise& p, const call&, const std::string& run) { requeue(self, p, run); })},
      {"drain", [](dispatcher_self self, const caf::response_promise& p, const call&) {
         perform(self, self->state.fsm->on_drain(now_of(self), remember(self, p), true));
       }},
      {"resume", [](dispatcher_self self, const caf::response_promise& p, const call&) {
         perform(self, self->state.fsm->on_drain(now_of(self), remember(self, p), false));
       }},
      {"tree", [](dispatcher_self self, const caf::response_promise& p, const call&) {
         rpc::serve_tree(self, self->state.parts.root, p);
       }},
      {"status", [](dispatcher_self self, const caf::response_promise& p, const call&) {
         tell_status(self, p);
       }}};
  return table;
}

}  // namespace

void serve(dispatcher_self self, const caf::response_promise& promise, const call& c) {
  const auto at = methods().find(c.method);
  if (at != methods().end()) {
    try {
      return at->second(self, promise, c);
    } catch (const json::exception& e) {
      return settle(self, remember(self, promise),
                    fail(ec::bad_argument, c.method + ": " + e.what()));
    }
  }
  std::string names = "push";  // The port serves it itself.
  for (const auto& [name, m] : methods()) names += ", " + name;
  settle(self, remember(self, promise),
         fail(ec::no_such_method, "no method " + c.method.substr(0, 64) + "; there are " + names));
}

namespace {

/// Peers with these numbers are gone. What they asked before is still served, and must not leave a
/// session behind.
void note_gone_early(dispatcher_state& state, peer_id from, peer_id to) {
  for (const auto& [promise, c] : state.early)
    if (c.peer >= from && c.peer < to) state.gone_early.insert(c.peer);
}

caf::behavior dispatcher(dispatcher_self self, const dispatcher_parts& parts) {
  supervision::guard(self, "dispatcher");
  self->state.parts = parts;
  recover(self);
  return {
      [self](const call& c) -> caf::result<served> {
        auto promise = self->make_response_promise();
        take_pushed(self);
        if (can_be_served(self->state, c.method))
          serve(self, promise, c);
        else if (self->state.early.size() < limits::unanswered_max)
          self->state.early.emplace_back(promise, c);
        else {
          ++gauges::value("dispatcher_early_refused");
          promise.deliver(
              to_caf({ec::overloaded, "the dispatcher reads its queue; try again", {}}));
        }
        return caf::delegated<served>{};
      },
      [self](const rpc::peer_gone& gone) {
        note_gone_early(self->state, gone.peer, gone.peer + 1);
        if (self->state.fsm)
          perform(self, self->state.fsm->on_session_gone(now_of(self), gone.peer));
      },
      [self](const rpc::port_opened& port) {
        note_gone_early(self->state, 0, port.first);
        if (self->state.fsm)
          perform(self, self->state.fsm->on_port_opened(now_of(self), port.first));
      },
      [self](supervision::wait_atom) -> caf::result<caf::ok_atom> {
        if (self->state.is_ready || self->state.takes_pushes) return caf::ok_atom::value;
        self->state.waiting.push_back(self->make_response_promise());
        return caf::delegated<caf::ok_atom>{};
      },
      [self](tick_atom) {
        static auto& ticks = gauges::value("queue_ticks");
        ++ticks;
        if (!self->state.timer.ring(now_of(self))) return;
        take_pushed(self);
        if (self->state.fsm) perform(self, self->state.fsm->on_tick(now_of(self)));
      },
      [self](tick_atom, const std::string& run) { wake_watchers(self, run); },
      [self](flush_atom) { flush(self); },
      [self](pushed_atom) { take_pushed(self); },
      [self](stop_atom) {
        if (self->state.fsm) self->state.fsm->on_stopping();
      },
      [self](idle_atom) -> std::uint64_t { return self->state.fsm ? self->state.fsm->held() : 0; }};
}

}  // namespace

result<caf::actor> spawn_dispatcher(caf::actor_system& system, const dispatcher_parts& parts) {
  return caf::actor_cast<caf::actor>(system.spawn(dispatcher, parts));
}

}  // namespace ntrace::dispatcher
