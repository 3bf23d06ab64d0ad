// enroll, expel, workers, tree, drain, resume: each asks a runner (or the dispatcher) once.
#include <iostream>

#include "tools/command.hpp"

namespace ntrace::tools {
namespace {

struct fleet_args {
  server_flags server;
  std::string uuid;
  bool abort = false;
};

int call_and_print(const fleet_args& a, const char* method, const json& args,
                   const std::function<void(const json&)>& print) {
  return a.server.print(a.server.call(method, args, milliseconds{60'000}), print);
}

int workers(const fleet_args& a) {
  return call_and_print(a, "workers", json::array(), [](const json& list) {
    std::vector<std::vector<std::string>> rows{
        {"WORKER", "STATE", "RUN", "REPAIRS", "GENERATION", "PROOF", "ENROLLED (UTC)"}};
    for (const auto& w : list) {
      const auto clean = w.value("last_clean", json());
      rows.push_back({w.value("uuid", ""), w.value("state", ""),
                      w.value("run", "").empty() ? "-" : w.value("run", ""),
                      std::to_string(w.value("restarts", 0)),
                      clean.is_object() ? std::to_string(clean.value("generation", 0)) : "-",
                      clean.is_object() ? (clean.value("ok", false) ? "clean" : "not clean") : "-",
                      moment(w.value("enrolled_ms", std::int64_t{0}))});
    }
    std::cout << table(rows);
    for (const auto& w : list)
      if (const auto problem = w.value("problem", ""); !problem.empty())
        std::cout << w.value("uuid", "") << ": " << for_terminal(problem) << "\n";
  });
}

int tree(const fleet_args& a) {
  return call_and_print(a, "tree", json::array(),
                        [](const json& root) { std::cout << show_tree(root); });
}

}  // namespace

void add_fleet(cli::app app, outcome& out) {
  const auto add = [&](const char* name, const char* help, text_setting server, bool with_uuid,
                       const std::function<int(const fleet_args&)>& run) {
    const auto sub = app.add_subcommand(name, help);
    auto a = std::make_shared<fleet_args>();
    a->server.add(sub, server);
    if (with_uuid) sub.add_option("UUID", a->uuid, "the zone's uuid").required();
    if (std::string_view{name} == "expel")
      sub.add_flag("--abort", a->abort, "end its run instead of waiting for it");
    sub.callback([&out, a, run] { out.run = [a, run] { return run(*a); }; });
  };
  add("enroll", "Take a zone into the fleet", "runner", true, [](const fleet_args& a) {
    return call_and_print(a, "enroll", json::array({a.uuid}), [](const json& w) {
      std::cout << w.value("uuid", "") << " " << w.value("state", "") << "\n";
    });
  });
  add("expel", "Put a zone out of the fleet", "runner", true, [](const fleet_args& a) {
    return call_and_print(a, "expel", json::array({a.uuid, json{{"abort", a.abort}}}),
                          [](const json& w) { std::cout << w.value("uuid", "") << " expelled\n"; });
  });
  add("workers", "A runner's workers", "runner", false, workers);
  add("tree", "The supervision tree of a server, with restarts and reasons", "dispatcher", false,
      tree);
  const auto says_draining = [](const json& r) {
    std::cout << (r.value("draining", false) ? "draining" : "taking work") << "\n";
  };
  add("drain", "Take no more work", "dispatcher", false, [says_draining](const fleet_args& a) {
    return call_and_print(a, "drain", json::array(), says_draining);
  });
  add("resume", "Take work again", "dispatcher", false, [says_draining](const fleet_args& a) {
    return call_and_print(a, "resume", json::array(), says_draining);
  });
}

}  // namespace ntrace::tools
