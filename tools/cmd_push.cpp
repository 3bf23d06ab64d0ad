// push: one durable push, and with --wait its run to the end.
#include <iostream>
#include <utility>

#include "actors/runner/source_spec.hpp"
#include "config/json_parse.hpp"
#include "tools/command.hpp"

namespace ntrace::tools {
namespace {

struct push_args {
  server_flags server;
  std::string owner, repo, sha, key, source;
  int priority = 0;
  std::int64_t deadline_ms = 0;
  bool wait = false, require_profile = false;
};

/// Follows the run's events on stderr until it has ended; its last state.
result<json> follow(const push_args& a, const std::string& run) {
  std::uint64_t after = 0;
  int tries = 0;  // Attempts that met an outage.
  for (;;) {
    // A new connection for each question: the dispatcher may restart, and the run goes on.
    auto got = a.server.call("logs",
                             json::array({run, json{{"after", after},
                                                    {"stream", "events"},
                                                    {"wait_ms", 20'000},
                                                    {"outage_tries", tries}}}),
                             milliseconds{40'000});
    if (!got) {
      if (got.error().code != ec::connection_lost && got.error().code != ec::unreachable)
        return got;
      const auto again = a.server.call("status", json::array());
      if (!again && again.error().code == ec::unreachable) return got;
      continue;
    }
    after = got->value("next", after);
    for (const auto& chunk : (*got)["chunks"]) {
      const auto event = parse_or_discard(chunk_text(chunk));
      if (event.is_object()) std::cerr << "  " << for_terminal(event.value("message", "")) << "\n";
    }
    const auto met = got->value("outage", json::object()).value("tries", 0);
    if (std::exchange(tries, met) != met && got->contains("waits_for"))
      std::cerr << "  waits for " << for_terminal(got->value("waits_for", "")) << "\n";
    const auto state = got->value("state", "");
    if (state != "queued" && state != "leased" && state != "running" && !got->value("more", false))
      return got;
  }
}

/// Why the run has no flame graph though its script ran.
result<std::string> missing_profile(const push_args& a, const std::string& run) {
  const auto shown = a.server.call("show", json::array({run}));
  if (!shown) return fail(shown.error());
  const auto attempts = shown->value("attempts", json::array());
  return attempts.empty() ? std::string{}
                          : no_profile(attempts.back().value("receipt", json::object()));
}

int wait_for_end(const push_args& a, const std::string& run, json answer) {
  const auto ended = follow(a, run);
  if (!ended) return report(ended.error(), a.server.as_json);
  const auto missing = missing_profile(a, run);
  if (!missing) return report(missing.error(), a.server.as_json);
  const auto state = ended->value("state", "");
  const auto reason = ended->value("reason", "");
  if (a.server.as_json) {
    answer["state"] = state;
    answer["verdict"] = ended->value("verdict", "");
    answer["reason"] = reason;
    answer["profile_failed"] = *missing;
    std::cout << answer.dump() << "\n";
  } else {
    if (!missing->empty())
      std::cout << "NO FLAME GRAPH: " << for_terminal(*missing)
                << "; `ntrace doctor runner` on its runner tries what profiling needs\n";
    std::cout << run << " " << state << (reason.empty() ? "" : ": " + for_terminal(reason)) << "\n";
  }
  return with_profile(run_exit_code(state, reason), *missing, a.require_profile);
}

int run_push(const push_args& a) {
  json options = json::object();
  if (!a.key.empty()) options["key"] = a.key;
  if (!a.source.empty()) {
    if (const auto fine = runner::parse_source_spec(a.source); !fine)
      return report({ec::bad_config, fine.error().message, {}}, a.server.as_json);
    options["source"] = a.source;
  }
  if (a.priority != 0) options["priority"] = a.priority;
  if (a.deadline_ms != 0) options["deadline_ms"] = a.deadline_ms;
  json args = json::array({a.owner, a.repo, a.sha});
  if (!options.empty()) args.push_back(options);
  const auto receipt = a.server.call("push", args);
  if (!receipt) {
    const int code = report(receipt.error(), a.server.as_json);
    for (const auto& [name, run] : receipt.error().facts)
      if (name == "run" && !a.server.as_json)
        std::cerr << "`ntrace why " << for_terminal(run) << "` keeps this on record\n";
    return code;
  }
  const auto run = receipt->value("run", "");
  if (!a.wait) {
    if (a.server.as_json)
      std::cout << receipt->dump() << "\n";
    else
      std::cout << run << " " << receipt->value("state", "")
                << (receipt->value("duplicate", false) ? " (pushed before)" : "") << "\n";
    return 0;
  }
  if (!a.server.as_json) std::cerr << run << "\n";
  return wait_for_end(a, run, *receipt);
}

}  // namespace

void add_push(cli::app app, outcome& out) {
  const auto sub = app.add_subcommand("push", "Push a commit durably; prints the run's id");
  auto a = std::make_shared<push_args>();
  a->server.add(sub, "dispatcher");
  sub.add_option("OWNER", a->owner, "whose repository it is").required();
  sub.add_option("REPO", a->repo, "the repository's name").required();
  sub.add_option("SHA", a->sha, "the commit, 40 or 64 hexadecimal digits").required();
  sub.add_option("--key", a->key,
                 "idempotency key: the same push with it is the same run, another is refused")
      .type_name("KEY");
  sub.add_option("--source", a->source, "SPEC to take the source from instead of the template's")
      .type_name("SPEC");
  sub.add_option("--priority", a->priority, "-100 to 100, higher goes first").type_name("N");
  sub.add_option("--deadline-ms", a->deadline_ms,
                 "the run ends as timed_out when it has no result after so many milliseconds")
      .type_name("MS");
  sub.add_flag("--wait", a->wait, "follow the run to its end; the exit code tells how it went");
  add_require_profile(sub, a->require_profile);
  sub.callback([&out, a] { out.run = [a] { return run_push(*a); }; });
}

}  // namespace ntrace::tools
