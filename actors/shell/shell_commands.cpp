#include "actors/shell/shell_commands.hpp"

#include <fmt/core.h>
#include <algorithm>
#include <map>

#include "config/gauges.hpp"
#include "config/json_parse.hpp"
#include "config/log.hpp"

namespace ntrace::shell {
namespace {

using nlohmann::json;
using words = std::vector<std::string>;

// Of one request; no command needs more.
constexpr std::size_t words_max = 16, word_bytes_max = 4096;

/// A row of the table: hello tells the shell all of it but `run`.
struct command {
  const char* name;
  const char* args;  ///< For people: WORDS in capitals, [OPTIONAL].
  const char* help;
  const char* example;
  bool acts;
  std::size_t args_min, args_max;
  std::function<result<json>(const faces&, const words&)> run;
};

result<json> ask(const faces::ask& whom, const char* role, std::string_view method,
                 json args = json::array()) {
  if (!whom)
    return fail(ec::invalid_state,
                std::string{"this process is no "} + role + "; ask the shell of one");
  return whom(method, std::move(args));
}

/// Of the dispatcher, else of the runner.
result<json> ask_either(const faces& f, std::string_view method) {
  return f.dispatcher ? ask(f.dispatcher, "dispatcher", method) : ask(f.runner, "runner", method);
}

/// A command that passes its words on to that method of the line protocol.
auto of_dispatcher(const char* method) {
  return [method](const faces& f, const words& args) {
    return ask(f.dispatcher, "dispatcher", method, args);
  };
}

auto of_runner(const char* method) {
  return
      [method](const faces& f, const words& args) { return ask(f.runner, "runner", method, args); };
}

/// A command on the actor whose path is its one word.
auto on_child(const char* verb) {
  return [verb](const faces& f, const words& args) -> result<json> {
    if (auto done = f.child(verb, args[0]); !done) return fail(done.error());
    return json{{"actor", args[0]}, {"done", verb}};
  };
}

/// One row for each actor, by its path.
void flatten(const json& tree, const std::string& above, json& rows) {
  for (const auto& child : tree.value("children", json::array())) {
    auto row = child;
    const auto path = above + child.value("id", "");
    row.erase("id");
    row.erase("tree");
    row["actor"] = path;
    const auto below = child.value("tree", json::object());
    if (below.contains("budget_left")) row["budget_left"] = below["budget_left"];
    rows.push_back(std::move(row));
    flatten(below, path + "/", rows);
  }
}

result<json> actors(const faces& f, const words&) {
  const auto tree = f.tree();
  if (!tree) return fail(tree.error());
  auto rows = json::array();
  flatten(*tree, "", rows);
  return rows;
}

result<json> status(const faces& f, const words&) {
  auto out = json::object();
  for (const auto& [name, whom] : {std::pair{"dispatcher", &f.dispatcher}, {"runner", &f.runner}}) {
    if (!*whom) continue;
    auto one = (*whom)("status", json::array());
    if (!one) return fail(one.error());
    one->erase("gauges");  // They are the process's, and have a command of their own.
    out[name] = std::move(*one);
  }
  return out;
}

/// A member of the dispatcher's status.
auto of_status(const char* member) {
  return [member](const faces& f, const words&) -> result<json> {
    auto all = ask(f.dispatcher, "dispatcher", "status");
    if (!all) return fail(all.error());
    return all->value(member, json::array());
  };
}

/// The one of `list` whose member "run" is that; null when there is none.
json about(const std::string& run, const json& list) {
  for (const auto& one : list)
    if (one.is_object() && one.value("run", "") == run) return one;
  return nullptr;
}

/// What each actor of this process has of a run: journal, queue, runner, zone.
result<json> trace(const faces& f, const words& args) {
  const auto& run = args[0];
  auto out = json::object();
  if (f.dispatcher) {
    auto why = f.dispatcher("why", json::array({run}));
    auto state = why ? f.dispatcher("status", json::array()) : fail(why.error());
    if (!state) return fail(state.error());
    out["lease"] = about(run, state->value("leases", json::array()));
    out["journal"] = std::move(*why);
  }
  if (f.runner) {
    const auto state = f.runner("status", json::array());
    const auto workers = state ? f.runner("workers", json::array()) : state;
    if (!workers) return fail(workers.error());
    out["attempt"] = about(run, state->value("attempts", json::array()));
    out["worker"] = about(run, *workers);
  }
  return out;
}

result<json> gauge_list(const faces&, const words& args) {
  auto out = json::object();
  for (const auto& [name, value] : gauges::snapshot())
    if (args.empty() || name.find(args[0]) != std::string::npos) out[name] = value;
  return out;
}

result<json> runs(const faces& f, const words& args) {
  auto filter = json{{"limit", 50}};
  if (!args.empty()) filter["state"] = args[0];
  return ask(f.dispatcher, "dispatcher", "runs", json::array({filter}));
}

result<json> expel(const faces& f, const words& args) {
  if (args.size() > 1 && args[1] != "abort")
    return fail(ec::bad_argument, "expel UUID, or expel UUID abort");
  return ask(f.runner, "runner", "expel", json::array({args[0], {{"abort", args.size() > 1}}}));
}

result<json> set_log_level(const faces&, const words& args) {
  if (args.size() == 1 ? log::set_level(args[0]) : log::set_level(args[0], args[1]))
    return json{{"component", args.size() == 1 ? "all" : args[0]}, {"level", args.back()}};
  return fail(ec::bad_argument,
              "\"" + args.back() + "\" is no level: debug, info, warn, error or off");
}

result<json> inject(const faces& f, const words& args) {
  if (!f.may_inject)
    return fail(ec::forbidden, "this process takes no faults; start it with `faults = true`");
  if (args[0] != "kill" && args[0] != "throw" && args[0] != "hang")
    return fail(ec::bad_argument, "\"" + args[0] + "\" is no fault: kill, throw or hang");
  return on_child(args[0].c_str())(f, {args[1]});
}

const std::vector<command>& table() {
  static const std::vector<command> all{
      {"tree", "", "the supervision tree: incarnations, restarts, budget left, last end", "tree",
       false, 0, 0, [](const faces& f, const words&) { return f.tree(); }},
      {"actors", "", "the same as a list, with each mailbox, and what each does now and since when",
       "actors", false, 0, 0, actors},
      {"status", "", "queue, leases, runners, attempts, outages, invariants", "status", false, 0, 0,
       status},
      {"leases", "", "each lease: its run, runner, token and end", "leases", false, 0, 0,
       of_status("leases")},
      {"runners", "", "runners that are connected", "runners", false, 0, 0, of_status("runners")},
      {"invariants", "", "the findings of the journal's monitor", "invariants", false, 0, 0,
       of_status("invariants")},
      {"runs", "[STATE]",
       "the latest 50 runs, of one state if it is named; queued ones may wait for a host",
       "runs quarantined", false, 0, 1, runs},
      {"show", "RUN", "one run with its attempts", "show RUN", false, 1, 1, of_dispatcher("show")},
      {"why", "RUN", "every step of a run, and what it waits for: a worker, a retry, a host",
       "why RUN", false, 1, 1, of_dispatcher("why")},
      {"trace", "RUN", "one run through all actors here: journal, lease, attempt, worker",
       "trace RUN", false, 1, 1, trace},
      {"workers", "", "a runner's worker zones: state, repairs, generation, last proof", "workers",
       false, 0, 0, of_runner("workers")},
      {"tunnel", "", "the tunnel: state, round trips, connections, restarts", "tunnel", false, 0, 0,
       of_runner("tunnel")},
      {"gauges", "[PART]", "all gauges, or those whose name has PART in it", "gauges journal",
       false, 0, 1, gauge_list},
      {"restart", "ACTOR", "end an actor and start it again, with those that depend on it",
       "restart runner_sup/link", true, 1, 1, on_child("restart")},
      {"stop", "ACTOR", "end an actor; it stays down until it is started",
       "stop dispatcher_sup/webhook", true, 1, 1, on_child("stop")},
      {"start", "ACTOR", "start an actor that is stopped", "start dispatcher_sup/webhook", true, 1,
       1, on_child("start")},
      {"drain", "", "take no more work", "drain", true, 0, 0,
       [](const faces& f, const words&) { return ask_either(f, "drain"); }},
      {"resume", "", "take work again", "resume", true, 0, 0,
       [](const faces& f, const words&) { return ask_either(f, "resume"); }},
      {"cancel", "RUN", "end a run", "cancel RUN", true, 1, 1, of_dispatcher("cancel")},
      {"requeue", "RUN", "bring a run back from quarantine", "requeue RUN", true, 1, 1,
       of_dispatcher("requeue")},
      {"enroll", "UUID", "take a zone into the fleet, or try a broken one at once", "enroll UUID",
       true, 1, 1, of_runner("enroll")},
      {"expel", "UUID [abort]", "put a zone out of the fleet", "expel UUID", true, 1, 2, expel},
      {"retry", "", "dial the tunnel now, whatever it waits for", "retry", true, 0, 0,
       [](const faces& f, const words&) {
         return ask(f.runner, "runner", "tunnel", json::array({"retry"}));
       }},
      {"level", "[COMPONENT] LEVEL", "log level of everything, or of COMPONENT.event lines",
       "level zone debug", true, 1, 2, set_log_level},
      {"inject", "FAULT ACTOR", "kill, throw or hang in an actor, where `faults` allows it",
       "inject kill runner_sup/runner", true, 2, 2, inject},
  };
  return all;
}

result<words> words_of(const json& request) {
  const auto args = request.value("args", json::array());
  if (!args.is_array() || args.size() > words_max) return fail(ec::bad_argument, "too many words");
  words out;
  for (const auto& one : args) {
    if (!one.is_string() || one.get_ref<const std::string&>().size() > word_bytes_max)
      return fail(ec::bad_argument, "a word is no text, or too long");
    out.push_back(one.get<std::string>());
  }
  return out;
}

bool speaks_ours(const json& request) {
  const auto versions = request.value("versions", json::array());
  return versions.is_array() &&
         std::find(versions.begin(), versions.end(), json(protocol_version)) != versions.end();
}

}  // namespace

json commands::hello() const {
  auto list = json::array();
  for (const auto& c : table())
    if (!c.acts || role_ == role::operator_)
      list.push_back({{"name", c.name},
                      {"args", c.args},
                      {"help", c.help},
                      {"example", c.example},
                      {"acts", c.acts}});
  return {{"program", process_.program},
          {"role", role_ == role::operator_ ? "operator" : "viewer"},
          {"dispatcher", static_cast<bool>(process_.dispatcher)},
          {"runner", static_cast<bool>(process_.runner)},
          {"commands", list}};
}

result<json> commands::run(const json& request) const {
  if (!request.is_object() || !speaks_ours(request))
    return fail(
        ec::bad_argument,
        fmt::format("this server speaks version {} of the shell's protocol", protocol_version));
  const auto name = request.value("command", "");
  if (name == "hello") return hello();
  const auto at = std::find_if(table().begin(), table().end(),
                               [&](const command& c) { return name == c.name; });
  if (at == table().end())
    return fail(ec::no_such_method, "no command \"" + name.substr(0, 64) + "\"; `help` lists them");
  const auto args = words_of(request);
  if (!args) return fail(args.error());
  if (args->size() < at->args_min || args->size() > at->args_max)
    return fail(ec::bad_argument,
                fmt::format("usage: {} {}, as in: {}", at->name, at->args, at->example));
  if (at->acts) {
    if (role_ != role::operator_)
      return fail(ec::forbidden, name + " acts, and this shell only sees; connect to the " +
                                     "operators' address with an operator's certificate");
    auto noted =
        process_.audit({{"command", name}, {"args", *args}, {"by", request.value("by", "")}});
    if (!noted) return fail(noted.error());
  }
  return at->run(process_, *args);
}

json commands::answer(const std::string& request) const {
  result<json> value = fail(ec::bad_argument, "the request is no JSON");
  try {
    if (const auto read = parse_or_discard(request); !read.is_discarded()) value = run(read);
  } catch (const json::exception& e) {
    value = fail(ec::bad_argument, e.what());
  }
  if (value) return {{"version", protocol_version}, {"value", std::move(*value)}};
  return {{"version", protocol_version},
          {"error", {{"code", to_string(value.error().code)}, {"message", value.error().message}}}};
}

}  // namespace ntrace::shell
