// The dispatcher's methods: what each makes of its arguments, and who answers.
#include <algorithm>
#include <utility>

#include "actors/dispatcher/dispatcher_state.hpp"
#include "actors/journal/journal_actor.hpp"
#include "actors/journal/journal_monitor_actor.hpp"
#include "actors/rpc/messages/client_messages.hpp"
#include "actors/rpc/messages/stream_data.hpp"
#include "actors/rpc/serve_tree.hpp"
#include "config/gauges.hpp"
#include "config/limits.hpp"
#include "supervision/caf_types.hpp"

namespace ntrace::dispatcher {
namespace {

using nlohmann::json;
using rpc::call;
using rpc::deny;
using rpc::give;
using supervision::now_of;

constexpr std::size_t watchers_max = 4096;  // of all runs together

void read(dispatcher_self self, const caf::response_promise& promise, journal::read_request what,
          const std::function<void(json&)>& finish = {}) {
  self->request(self->state.parts.reader, std::chrono::seconds{30}, std::move(what))
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
  self->request(self->state.parts.reader, std::chrono::seconds{30}, journal::read_request{w.what})
      .then(
          [self, w](const journal::read_answer& got) {
            auto value = got.value;
            const auto& run = w.what.run;
            const auto outage = value.find("outage");
            const auto tries = outage == value.end() ? 0 : outage->value("tries", std::uint64_t{0});
            const bool is_news =
                !value["chunks"].empty() || w.outage_tries.value_or(tries) != tries ||
                is_terminal(domain::run_state_from(value["state"].get_ref<const std::string&>()));
            if (!is_news && now_of(self) < w.until && self->state.watchers.size() < watchers_max) {
              auto again = w;
              if (!std::exchange(again.has_timer, true))
                self->delayed_send(self, std::chrono::ceil<milliseconds>(w.until - now_of(self)),
                                   tick_atom::value, run);
              self->state.watchers.emplace(run, std::move(again));
              return;
            }
            for (auto& chunk : value["chunks"]) rpc::wire_chunk(chunk);
            add_wait(self, run, value);
            give(w.promise, std::move(value));
          },
          [w](const caf::error& e) { deny(w.promise, e); });
}

using method = std::function<void(dispatcher_self, const caf::response_promise&, const call&)>;

/// For a call that carries one object of a runner: what `parse` makes of that goes to the machine.
template <class Message, class F>
method from_runner(result<Message> (*parse)(const json&), F f) {
  return [parse, f](dispatcher_self self, const caf::response_promise& promise, const call& c) {
    const auto request = remember(self, promise);
    if (c.args.size() != 1 || !c.args[0].is_object())
      return settle(self, request, fail(ec::bad_argument, c.method + " takes one object"));
    auto message = parse(c.args[0]);
    if (!message) return settle(self, request, fail(message.error()));
    perform(self, f(*self->state.fsm, now_of(self), c.peer, request, std::move(*message)));
  };
}

/// For methods about one run.
template <class F>
method about_run(F f) {
  return [f](dispatcher_self self, const caf::response_promise& promise, const call& c) {
    auto run = rpc::parse_run(c.args);
    if (!run) return settle(self, remember(self, promise), fail(run.error()));
    f(self, promise, *run);
  };
}

void take_next(dispatcher_self self, const caf::response_promise& promise, const call& c) {
  perform(self, self->state.fsm->on_next(now_of(self), c.peer, c.address, remember(self, promise)));
}

void show(dispatcher_self self, const caf::response_promise& promise, const std::string& run) {
  read(self, promise, {journal::show_query{run}});
}

void cancel(dispatcher_self self, const caf::response_promise& promise, const std::string& run) {
  perform(self, self->state.fsm->on_cancel(now_of(self), remember(self, promise), run));
}

void tell_tree(dispatcher_self self, const caf::response_promise& promise, const call&) {
  rpc::serve_tree(self, self->state.parts.root, promise);
}

void take_result(dispatcher_self self, const caf::response_promise& promise, const call& c) {
  const auto request = remember(self, promise);
  const auto doc = rpc::parse_result_doc(c.args);
  if (!doc) return settle(self, request, fail(doc.error()));
  perform(self, self->state.fsm->on_result(now_of(self), c.peer, c.address, request, *doc));
}

void list_runs(dispatcher_self self, const caf::response_promise& promise, const call& c) {
  auto what = rpc::parse_runs(c.args);
  if (!what) return settle(self, remember(self, promise), fail(what.error()));
  read(self, promise, {std::move(*what)}, [self](json& v) {
    for (auto& r : v) add_wait(self, r["run"].get<std::string>(), r);
  });
}

void follow_logs(dispatcher_self self, const caf::response_promise& promise, const call& c) {
  auto asked = rpc::parse_logs(c.args);
  if (!asked) return settle(self, remember(self, promise), fail(asked.error()));
  look(self, {self->state.next_request++, promise, std::move(asked->what), asked->outage_tries,
              now_of(self) + asked->wait});
}

void explain(dispatcher_self self, const caf::response_promise& promise, const std::string& run) {
  read(self, promise, {journal::why_query{run}}, [self, run](json& v) {
    if (auto text = self->state.fsm->waits_for(now_of(self), run); !text.empty())
      v["waits_for"] = std::move(text);
  });
}

void requeue(dispatcher_self self, const caf::response_promise& promise, const std::string& run) {
  self->request(self->state.parts.reader, std::chrono::seconds{30}, journal::find_request{run})
      .then(
          [self, promise](const journal::found_run& found) {
            perform(self,
                    self->state.fsm->on_requeue(now_of(self), remember(self, promise), found.row));
          },
          [promise](const caf::error& e) { deny(promise, e); });
}

method drain(bool is_on) {
  return [is_on](dispatcher_self self, const caf::response_promise& promise, const call&) {
    perform(self, self->state.fsm->on_drain(now_of(self), remember(self, promise), is_on));
  };
}

void tell_status(dispatcher_self self, const caf::response_promise& promise, const call&) {
  auto status = to_json(self->state.fsm->status(now_of(self)));
  const auto count = [self, promise, status](const json& invariants) {
    read(self, promise, {journal::counts_query{}}, [status, invariants](json& v) {
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
  using at = time_point;
  using session = session_id;
  using ask = request_id;
  static const std::map<std::string, method> table{
      {"hello", from_runner(rpc::parse_runner_report,
                            [](fsm& f, at now, session s, ask r, const rpc::runner_report& m) {
                              return f.on_hello(now, s, r, m);
                            })},
      {"accept", from_runner(rpc::parse_about_token,
                             [](fsm& f, at now, session s, ask r, const rpc::about_token& m) {
                               return f.on_accept(now, s, r, m);
                             })},
      {"refuse", from_runner(rpc::parse_refuse,
                             [](fsm& f, at now, session s, ask r, const rpc::refuse& m) {
                               return f.on_refuse(now, s, r, m);
                             })},
      {"started", from_runner(rpc::parse_started,
                              [](fsm& f, at now, session, ask r, const rpc::started& m) {
                                return f.on_started(now, r, m);
                              })},
      {"heartbeat", from_runner(rpc::parse_runner_report,
                                [](fsm& f, at now, session s, ask r, const rpc::runner_report& m) {
                                  return f.on_heartbeat(now, s, r, m);
                                })},
      {"append", from_runner(rpc::parse_append,
                             [](fsm& f, at now, session, ask r, rpc::append&& m) {
                               return f.on_append(now, r, std::move(m));
                             })},
      {"finish",
       from_runner(rpc::parse_finish, [](fsm& f, at now, session, ask r,
                                         const rpc::finish& m) { return f.on_finish(now, r, m); })},
      {"next", take_next},
      {"result", take_result},
      {"runs", list_runs},
      {"show", about_run(show)},
      {"why", about_run(explain)},
      {"logs", follow_logs},
      {"cancel", about_run(cancel)},
      {"requeue", about_run(requeue)},
      {"drain", drain(true)},
      {"resume", drain(false)},
      {"tree", tell_tree},
      {"status", tell_status}};
  return table;
}

}  // namespace

void wake_watchers(dispatcher_self self, const std::string& run) {
  const auto [begin, end] = self->state.watchers.equal_range(run);
  std::vector<watcher> due;
  for (auto at = begin; at != end; ++at) due.push_back(at->second);
  self->state.watchers.erase(begin, end);
  for (const auto& w : due) look(self, w);
}

void serve(dispatcher_self self, const caf::response_promise& promise, const call& c) {
  const auto at = methods().find(c.method);
  if (at != methods().end()) return at->second(self, promise, c);
  std::string names = "push";  // The port serves it itself.
  for (const auto& [name, m] : methods()) names += ", " + name;
  settle(self, remember(self, promise),
         fail(ec::no_such_method, "no method " + c.method.substr(0, 64) + "; there are " + names));
}

}  // namespace ntrace::dispatcher
