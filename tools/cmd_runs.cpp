// runs, show, logs, why, cancel, requeue: each asks the dispatcher once.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <utility>

#include "config/json_parse.hpp"
#include "config/shown_url.hpp"
#include "tools/command.hpp"
#include "tools/output.hpp"

namespace ntrace::tools {
namespace {

struct run_args {
  server_flags server;
  std::string run, repo, state, stream, before, after;
  std::int64_t since_ms = 0;
  int limit = 20;
  bool follow = false, all = false, raw = false;
};

constexpr int page_max = 1000;  // docs/protocol.md

/// A waiting run's reason, whole, because its end says when the wait is over; or the beginning of
/// an ended run's reason.
std::string reason_of(const json& run) {
  constexpr std::size_t reason_max = 60;
  if (run.contains("waits_for")) return "waits for " + run.value("waits_for", "");
  return shortened(run.value("reason", ""), reason_max);
}

std::string runs_table(const json& list) {
  std::vector<std::vector<std::string>> rows{
      {"RUN", "STATE", "REPO", "SHA", "ATTEMPTS", "PUSHED (UTC)", "REASON"}};
  for (const auto& r : list)
    rows.push_back({r.value("run", ""), r.value("state", ""),
                    r.value("owner", "") + "/" + r.value("repo", ""),
                    r.value("sha", "").substr(0, 10), std::to_string(r.value("attempts", 0)),
                    moment(r.value("created_ms", std::int64_t{0})), reason_of(r)});
  return table(rows);
}

/// Page by page from the newest to the oldest. Runs pushed meanwhile are on no page.
int all_runs(const run_args& a, json filter) {
  filter["limit"] = page_max;
  bool is_first = true;
  if (a.server.as_json) std::cout << "[";
  for (;;) {
    const auto page = a.server.call("runs", json::array({filter}));
    if (!page) return report(page.error(), a.server.as_json);
    if (a.server.as_json)
      for (const auto& r : *page) std::cout << (std::exchange(is_first, false) ? "" : ",\n") << r;
    else if (!page->empty() || is_first)
      std::cout << runs_table(*page);
    if (page->size() < page_max || checked_output::is_gone()) break;
    filter["before"] = page->back().value("run", "");
    is_first = false;
  }
  if (a.server.as_json) std::cout << "]\n";
  return 0;
}

int runs(const run_args& a) {
  json filter{{"limit", a.limit}, {"since_ms", a.since_ms}, {"repo", a.repo},
              {"state", a.state}, {"before", a.before},     {"after", a.after}};
  if (a.all) return all_runs(a, std::move(filter));
  return a.server.print(a.server.call("runs", json::array({filter})), [&](const json& list) {
    std::cout << runs_table(list);
    if (list.size() < static_cast<std::size_t>(a.limit)) return;
    if (a.after.empty())
      std::cout << "older ones: ntrace runs --before " << list.back().value("run", "") << "\n";
    else
      std::cout << "newer ones: ntrace runs --after " << list.front().value("run", "") << "\n";
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

/// A reason begins with its code. The code is mostly the verdict.
std::string verdict_text(const std::string& verdict, const std::string& reason) {
  if (verdict.empty()) return reason.empty() ? "under way" : reason;
  if (reason.empty() || reason.starts_with(verdict + ":")) return reason.empty() ? verdict : reason;
  return verdict + ", " + reason;
}

/// In the order in which attempts take them.
std::string steps_text(const json& steps) {
  std::vector<std::string> order{"rollback", "profiler", "fetch",   "unpack",
                                 "install",  "run",      "capture", "fold"};
  for (const auto& [name, ms] : steps.items())
    if (std::find(order.begin(), order.end(), name) == order.end()) order.push_back(name);
  std::string out;
  for (const auto& name : order)
    if (steps.contains(name))
      out += fmt::format("{}{} {} ms", out.empty() ? "" : ", ", name, steps[name].dump());
  return out;
}

void print_attempt(const json& at) {
  const auto receipt = at.value("receipt", json::object());
  std::cout << "attempt   " << at.value("attempt", 0) << " on " << one_line(at.value("runner", ""))
            << ", token " << at.value("token", 0) << ": "
            << one_line(verdict_text(at.value("verdict", ""), at.value("reason", ""))) << "\n";
  if (receipt.contains("clean"))
    std::cout << "  zone    " << one_line(receipt["clean"].value("zone", "")) << " generation "
              << receipt["clean"].value("generation", 0)
              << (receipt["clean"].value("ok", false) ? ", proved clean" : ", NOT clean") << "\n";
  if (receipt.contains("steps"))
    std::cout << "  steps   " << one_line(steps_text(receipt["steps"])) << "\n";
  if (receipt.contains("samples"))
    std::cout << "  profile " << receipt.value("samples", 0) << " samples of "
              << one_line(receipt.value("event", "")) << " at " << receipt.value("frequency", 0)
              << " Hz\n";
  if (const auto missing = no_profile(receipt); !missing.empty())
    std::cout << "  NO FLAME GRAPH: " << one_line(missing) << "\n";
}

void print_run(const json& r) {
  std::cout << "run       " << one_line(r.value("run", "")) << "\n"
            << "commit    "
            << one_line(fmt::format("{}/{} {}", r.value("owner", ""), r.value("repo", ""),
                                    r.value("sha", "")))
            << "\n"
            << "source    " << one_line(without_passwords(r.value("source", ""))) << "\n"
            << "state     " << one_line(r.value("state", ""))
            << (r.value("reason", "").empty() ? "" : ": " + one_line(r.value("reason", ""))) << "\n"
            << "pushed    " << moment(r.value("created_ms", std::int64_t{0})) << " UTC\n";
  if (r.contains("outages"))
    std::cout << "outages   " << r.value("outages", 0)
              << " attempts met one; they count towards no limit\n";
  if (const auto ms = push_to_script_ms(r); ms >= 0)
    std::cout << "latency   push → script started " << ms << " ms\n";
  for (const auto& at : r.value("attempts", json::array())) print_attempt(at);
  if (r.contains("waits_for"))
    std::cout << "waits for " << one_line(r.value("waits_for", "")) << "\n";
  const auto last = r.value("outage", json::object()).value("message", "");
  if (r.contains("waits_for") && !last.empty()) std::cout << "  last    " << one_line(last) << "\n";
}

int show(const run_args& a) {
  return a.server.print(a.server.call("why", json::array({a.run})), print_run);
}

std::string detail_text(const json& detail) {
  std::string out;
  if (!detail.is_object() || detail.empty()) return "-";
  if (detail.contains("message"))
    return one_line(detail.value("message", "")) +
           (detail.contains("duration_ms")
                ? " (" + std::to_string(detail.value("duration_ms", 0)) + " ms)"
                : "");
  for (const auto& [key, value] : detail.items()) {
    const auto text = value.is_string() ? value.get<std::string>() : value.dump();
    if (!text.empty()) out += fmt::format("{}{} {}", out.empty() ? "" : ", ", key, one_line(text));
  }
  return out.empty() ? "-" : out;
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

/// The run's own output, each stream as it came; harmless on a terminal.
class log_printer {
public:
  explicit log_printer(const run_args& a) : a_{a}, is_raw_{a.raw || ::isatty(1) == 0} {}

  void print(const json& chunk) {
    const auto stream = chunk.value("stream", "");
    if (a_.server.as_json) {
      std::cout << chunk.dump() << "\n";
    } else if (stream == "result" && a_.stream.empty()) {
      return;  // Binary; `ntrace flame` shows it.
    } else if (stream == "events") {
      change_to(stream);
      const auto event = parse_or_discard(chunk_text(chunk));
      std::cout << "· " << (event.is_object() ? one_line(event.value("message", "")) : "") << "\n";
    } else {
      change_to(stream);
      const auto text = chunk_text(chunk);
      if (is_raw_)
        checked_output::raw(text);
      else
        std::cout << shown_[stream].add(text);
    }
  }
  void end() {
    for (auto& [name, text] : shown_) std::cout << text.end();
  }

private:
  /// The colour of one stream does not change the other.
  void change_to(const std::string& stream) {
    if (stream != last_) std::cout << shown_[last_].stop_colours();
    last_ = stream;
  }
  const run_args& a_;
  bool is_raw_;
  std::string last_;
  std::map<std::string, terminal_text> shown_;
};

int logs(const run_args& a) {
  log_printer printer{a};
  std::uint64_t after = 0;
  for (;;) {
    const auto got = a.server.call("logs",
                                   json::array({a.run, json{{"after", after},
                                                            {"stream", a.stream},
                                                            {"wait_ms", a.follow ? 20'000 : 0}}}),
                                   milliseconds{40'000});
    if (!got) return report(got.error(), a.server.as_json);
    after = got->value("next", after);
    for (const auto& chunk : (*got)["chunks"]) printer.print(chunk);
    std::cout.flush();
    const auto state = got->value("state", "");
    const bool is_open = state == "queued" || state == "leased" || state == "running";
    const bool is_over = !got->value("more", false) && (!a.follow || !is_open);
    if (!is_over && !checked_output::is_gone()) continue;
    printer.end();
    return 0;
  }
}

int one_word(const run_args& a, const char* method) {
  return a.server.print(a.server.call(method, json::array({a.run})), [](const json& r) {
    std::cout << r.value("run", "") << " " << r.value("state", "") << "\n";
  });
}

}  // namespace

void add_runs(cli::app app, outcome& out) {
  const auto add = [&](const char* name, const char* help, bool with_run,
                       const std::function<int(const run_args&)>& run) {
    const auto sub = app.add_subcommand(name, help);
    auto a = std::make_shared<run_args>();
    a->server.add(sub, "dispatcher");
    if (with_run) sub.add_option("RUN", a->run, "the run's id").required();
    if (std::string_view{name} == "runs") {
      sub.add_option("--repo", a->repo, "only runs of this OWNER/REPO").type_name("REPO");
      sub.add_option("--state", a->state,
                     "only runs in this state; queued ones may wait for a host")
          .check(cli::one_of(
              {"queued", "leased", "running", "done", "failed", "quarantined", "cancelled"}));
      sub.add_option("--since-ms,--since", a->since_ms,
                     "only runs pushed then or later, in milliseconds since 1970 (date +%s000)")
          .type_name("MS");
      sub.add_option("--limit", a->limit, "at most so many runs")
          .type_name("N")
          .check(cli::range(1, page_max))
          .capture_default_str();
      const auto before = sub.add_option("--before", a->before, "only runs older than this one");
      before.type_name("RUN");
      const auto newer = sub.add_option("--after", a->after, "only runs newer than this one");
      newer.type_name("RUN");
      sub.add_flag("--all", a->all, "all of them, page by page").excludes(newer);
    }
    if (std::string_view{name} == "logs") {
      sub.add_flag("-f,--follow", a->follow, "go on until the run has ended");
      sub.add_option("--stream", a->stream, "only this one")
          .check(cli::one_of({"stdout", "stderr", "events", "result"}));
      sub.add_flag("--raw", a->raw, "the job's bytes as they are, also on a terminal");
    }
    sub.callback([&out, a, run] { out.run = [a, run] { return run(*a); }; });
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
