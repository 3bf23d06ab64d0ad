// flame: a run's stacks from the dispatcher, drawn here.
#include "actors/profiler/fold.hpp"

#include <fmt/core.h>
#include "tools/render.hpp"

namespace ntrace::tools {
namespace {

struct flame_args {
  server_flags server;
  render_args render;
  std::string run;
};

/// Why there are no stacks: the profile failed, or the run did.
tl::unexpected<error> no_stacks(const flame_args& a, const json& got) {
  auto why = got.value("reason", "");
  if (const auto run = a.server.call("show", json::array({a.run})))
    if (const auto attempts = run->value("attempts", json::array()); !attempts.empty())
      if (const auto missing = no_profile(attempts.back().value("receipt", json::object()));
          !missing.empty())
        why = missing;
  return fail(ec::not_found, fmt::format("run {} ({}) has no stacks{}", a.run,
                                         got.value("state", ""), why.empty() ? "" : ": " + why));
}

/// The stream `result` of the run's last attempt.
result<std::string> fetch_stacks(const flame_args& a) {
  std::string packed;
  std::uint64_t after = 0, attempt = 0;
  for (;;) {
    const auto got =
        a.server.call("logs", json::array({a.run, json{{"after", after}, {"stream", "result"}}}));
    if (!got) return fail(got.error());
    after = got->value("next", after);
    for (const auto& chunk : (*got)["chunks"]) {
      if (const auto n = chunk.value("attempt", std::uint64_t{0}); n != attempt) {
        packed.clear();
        attempt = n;
      }
      packed += chunk_text(chunk);
    }
    if (got->value("more", false)) continue;
    if (packed.empty()) return no_stacks(a, *got);
    return unzstd(packed);
  }
}

int flame(flame_args a) {
  const auto folded = fetch_stacks(a);
  if (!folded) return report(folded.error(), a.server.as_json);
  if (a.render.format == "folded") return put(a.render, *folded);
  auto stacks = profiler::fold_folded(*folded, {});
  if (!stacks) return report(stacks.error(), a.server.as_json);
  if (const auto run = a.server.call("show", json::array({a.run}))) {
    a.render.title = fmt::format("{}/{} {}", run->value("owner", ""), run->value("repo", ""),
                                 run->value("sha", "").substr(0, 10));
    const auto attempts = run->value("attempts", json::array());
    const auto receipt =
        attempts.empty() ? json::object() : attempts.back().value("receipt", json::object());
    a.render.frequency = receipt.value("frequency", std::uint64_t{999});
    a.render.subtitle =
        fmt::format("run {} · {} samples of {} at {} Hz", a.run, receipt.value("samples", 0),
                    receipt.value("event", "?"), a.render.frequency);
  }
  a.render.as_json = a.server.as_json;
  return put(a.render, render(stacks->stacks, a.render));
}

}  // namespace

void add_flame(cli::app app, outcome& out) {
  const auto sub = app.add_subcommand("flame", "The flame graph of a run");
  auto a = std::make_shared<flame_args>();
  a->server.add(sub, "dispatcher");
  a->render.add(sub);
  sub.add_option("RUN", a->run, "the run's id").required();
  sub.callback([&out, a] { out.run = [a] { return flame(*a); }; });
}

}  // namespace ntrace::tools
