// runs, show, logs, why, cancel, requeue: one question to the dispatcher each.
#include <unistd.h>

#include <iostream>

#include "config/json_parse.hpp"
#include "tools/command.hpp"

namespace ntrace::tools {
namespace {

struct run_args {
  server_flags server;
  std::string run, repo, state, stream;
  std::int64_t since_ms = 0;
  int limit = 20;
  bool follow = false;
};

int runs(const run_args& a) {
  json filter{{"limit", a.limit}, {"since_ms", a.since_ms}, {"repo", a.repo}, {"state", a.state}};
  return a.server.print(a.server.call("runs", json::array({filter})), [](const json& list) {
    std::vector<std::vector<std::string>> rows{
        {"RUN", "STATE", "REPO", "SHA", "ATTEMPTS", "PUSHED (UTC)", "REASON"}};
    for (const auto& r : list)
      rows.push_back({r.value("run", ""), r.value("state", ""),
                      r.value("owner", "") + "/" + r.value("repo", ""),
                      r.value("sha", "").substr(0, 10), std::to_string(r.value("attempts", 0)),
                      moment(r.value("created_ms", std::int64_t{0})),
                      for_terminal(r.value("reason", "").substr(0, 60))});
    std::cout << table(rows);
  });
}

/// Milliseconds from the push to the start of the script, from the recorded events; -1 before.
std::int64_t push_to_script_ms(const json& why) {
  for (const auto& e : why.value("events", json::array())) {
    const auto detail = e.value("detail", json::object());
    if (e.value("event", "") == "step" && detail.value("step", "") == "run" &&
        detail.value("code", "") == "start")
      return e.value("at_ms", std::int64_t{0}) - why.value("created_ms", std::int64_t{0});
  }
  return -1;
}

void print_run(const json& r) {
  std::cout << "run       " << r.value("run", "") << "\n"
            << "commit    " << r.value("owner", "") << "/" << r.value("repo", "") << " "
            << r.value("sha", "") << "\n"
            << "source    " << for_terminal(r.value("source", "")) << "\n"
            << "state     " << r.value("state", "")
            << (r.value("reason", "").empty() ? "" : ": " + for_terminal(r.value("reason", "")))
            << "\n"
            << "pushed    " << moment(r.value("created_ms", std::int64_t{0})) << " UTC\n";
  if (const auto ms = push_to_script_ms(r); ms >= 0)
    std::cout << "latency   push → script started " << ms << " ms\n";
  for (const auto& at : r.value("attempts", json::array())) {
    const auto receipt = at.value("receipt", json::object());
    std::cout << "attempt   " << at.value("attempt", 0) << " on " << at.value("runner", "")
              << ", token " << at.value("token", 0) << ": "
              << (at.value("verdict", "").empty() ? "under way" : at.value("verdict", ""))
              << (at.value("reason", "").empty() ? "" : ", " + for_terminal(at.value("reason", "")))
              << "\n";
    if (receipt.contains("clean"))
      std::cout << "  zone    " << receipt["clean"].value("zone", "") << " generation "
                << receipt["clean"].value("generation", 0)
                << (receipt["clean"].value("ok", false) ? ", proved clean" : ", NOT clean") << "\n";
    if (receipt.contains("steps")) {
      std::cout << "  steps  ";
      for (const auto& [name, ms] : receipt["steps"].items())
        std::cout << " " << name << " " << ms << " ms;";
      std::cout << "\n";
    }
    if (receipt.contains("samples"))
      std::cout << "  profile " << receipt.value("samples", 0) << " samples of "
                << receipt.value("event", "") << " at " << receipt.value("frequency", 0) << " Hz\n";
    if (receipt.contains("profile_failed"))
      std::cout << "  profile failed: " << for_terminal(receipt.value("profile_failed", ""))
                << "\n";
  }
  if (r.contains("waits_for"))
    std::cout << "waits for " << for_terminal(r.value("waits_for", "")) << "\n";
}

int show(const run_args& a) {
  return a.server.print(a.server.call("why", json::array({a.run})), print_run);
}

std::string detail_text(const json& detail) {
  std::string out;
  if (!detail.is_object()) return out;
  if (detail.contains("message"))
    return for_terminal(detail.value("message", "")) +
           (detail.contains("duration_ms")
                ? " (" + std::to_string(detail.value("duration_ms", 0)) + " ms)"
                : "");
  for (const auto& [key, value] : detail.items()) {
    const auto text = value.is_string() ? value.get<std::string>() : value.dump();
    if (!text.empty()) out += (out.empty() ? "" : ", ") + key + " " + for_terminal(text);
  }
  return out;
}

int why(const run_args& a) {
  return a.server.print(a.server.call("why", json::array({a.run})), [](const json& r) {
    print_run(r);
    const auto begin = r.value("created_ms", std::int64_t{0});
    std::vector<std::vector<std::string>> rows{{"AFTER", "ATTEMPT", "ACTOR", "EVENT", "WHAT"}};
    for (const auto& e : r.value("events", json::array()))
      rows.push_back({std::to_string(e.value("at_ms", std::int64_t{0}) - begin) + " ms",
                      std::to_string(e.value("attempt", 0)), e.value("actor", ""),
                      e.value("event", ""), detail_text(e.value("detail", json::object()))});
    std::cout << "\n" << table(rows);
  });
}

int logs(const run_args& a) {
  const bool on_terminal = ::isatty(1) != 0;
  std::uint64_t after = 0;
  for (;;) {
    const auto got = a.server.call("logs",
                                   json::array({a.run, json{{"after", after},
                                                            {"stream", a.stream},
                                                            {"wait_ms", a.follow ? 20'000 : 0}}}),
                                   milliseconds{40'000});
    if (!got) return report(got.error(), a.server.as_json);
    after = got->value("next", after);
    for (const auto& chunk : (*got)["chunks"]) {
      const auto stream = chunk.value("stream", "");
      if (a.server.as_json) {
        std::cout << chunk.dump() << "\n";
      } else if (stream == "result" && a.stream.empty()) {
        continue;  // Binary; `ntrace flame` shows it.
      } else if (stream == "events") {
        const auto event = parse_or_discard(chunk_text(chunk));
        std::cout << "· " << (event.is_object() ? for_terminal(event.value("message", "")) : "")
                  << "\n";
      } else {
        const auto text = chunk_text(chunk);
        std::cout << (on_terminal ? for_terminal(text) : text);
      }
    }
    std::cout.flush();
    const auto state = got->value("state", "");
    const bool is_open = state == "queued" || state == "leased" || state == "running";
    if (!got->value("more", false) && (!a.follow || !is_open)) return 0;
  }
}

int one_word(const run_args& a, const char* method) {
  return a.server.print(a.server.call(method, json::array({a.run})), [](const json& r) {
    std::cout << r.value("run", "") << " " << r.value("state", "") << "\n";
  });
}

}  // namespace

void add_runs(CLI::App& app, outcome& out) {
  const auto add = [&](const char* name, const char* help, bool with_run,
                       const std::function<int(const run_args&)>& run) {
    auto* sub = app.add_subcommand(name, help);
    auto a = std::make_shared<run_args>();
    a->server.add(sub, "dispatcher", "127.0.0.1:9181");
    if (with_run) sub->add_option("RUN", a->run, "the run's id")->required();
    if (std::string_view{name} == "runs") {
      sub->add_option("--repo", a->repo, "OWNER/REPO");
      sub->add_option("--state", a->state, "only runs in this state")
          ->check(CLI::IsMember(
              {"queued", "leased", "running", "done", "failed", "quarantined", "cancelled"}));
      sub->add_option("--since", a->since_ms, "milliseconds since 1970");
      sub->add_option("--limit", a->limit, "at most so many")
          ->check(CLI::Range(1, 1000))
          ->capture_default_str();
    }
    if (std::string_view{name} == "logs") {
      sub->add_flag("-f,--follow", a->follow, "go on until the run has ended");
      sub->add_option("--stream", a->stream, "only this one")
          ->check(CLI::IsMember({"stdout", "stderr", "events", "result"}));
    }
    sub->callback([&out, a, run] { out.run = [a, run] { return run(*a); }; });
  };
  add("runs", "List runs, the newest first", false, runs);
  add("show", "One run with its attempts", true, show);
  add("logs", "A run's output", true, logs);
  add("why", "Where a run is and how it got there", true, why);
  add("cancel", "End a run", true, [](const run_args& a) { return one_word(a, "cancel"); });
  add("requeue", "Bring a run back from its end", true,
      [](const run_args& a) { return one_word(a, "requeue"); });
}

}  // namespace ntrace::tools
