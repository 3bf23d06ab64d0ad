// profile: the whole job once, with nothing running before or after.
#include <fmt/core.h>
#include <unistd.h>
#include <caf/scoped_actor.hpp>

#include <csignal>
#include <filesystem>
#include <future>
#include <iostream>
#include <optional>
#include <thread>

#include "actors/profiler/fold.hpp"
#include "actors/runner/solo_actor.hpp"
#include "actors/zone/zone_linux.hpp"
#include "config/ids.hpp"
#include "config/json_parse.hpp"
#include "config/log.hpp"
#include "supervision/caf_types.hpp"
#include "tools/attempt_settings.hpp"
#include "tools/render.hpp"
#include "tools/serve.hpp"

namespace ntrace::tools {
namespace {

struct profile_args {
  std::shared_ptr<setting_flags> flags;
  std::string spec, folder;
  bool as_json = false, require_profile = true;
};

/// The run's results, collected on actors' threads and read when it is over.
struct collected {
  std::string output, packed;
  json events = json::array();
  std::uint64_t attempt = 0;

  void take(std::uint64_t number, domain::stream from, const std::string& data) {
    if (number != attempt) {
      attempt = number;
      output.clear();
      packed.clear();
    }
    if (from == domain::stream::out || from == domain::stream::err) output += data;
    if (from == domain::stream::result) packed += data;
    if (from != domain::stream::events) return;
    auto event = parse_or_discard(data);
    if (!event.is_object()) return;
    const bool says_something = event.value("code", "") == "start" ||
                                event.value("level", "") == "error" ||
                                event.value("level", "") == "warn";
    if (says_something) std::cerr << "  " << for_terminal(event.value("message", "")) << "\n";
    event["attempt"] = number;
    events.push_back(std::move(event));
  }
};

using namespace supervision;

// Each attempt may break its zone and its own actor; the number of attempts is bounded elsewhere.
constexpr supervisor_flags tree_flags{strategy::one_for_one, 20, milliseconds{60'000}};

/// The tree of one run: its zone, its attempts, and the actor that counts them.
wired wire_solo(caf::actor_system& system, const std::shared_ptr<zone::privileged_helper>& helper,
                runner::solo_spec spec) {
  wired out;
  const auto front = [&](bool resend) {
    facade_options options;
    options.resend = resend;
    return out.fronts.emplace_back(spawn_facade(system, options));
  };
  spec.zone = front(false);  // Programs of a zone that died are not started again.
  spec.attempt_sup = front(true);
  spec.self = out.runner = front(false);
  const auto uuid = spec.worker;
  child zone_child{{"zone", restart_type::permanent, {}, child_kind::worker},
                   [helper, uuid](caf::local_actor* by) -> result<caf::actor> {
                     return zone::spawn_zone(by->system(),
                                             std::make_shared<zone::zone_linux>(helper, uuid));
                   },
                   spec.zone};
  child attempts{
      {"attempt_sup", restart_type::permanent, shutdown_policy::infinity(), child_kind::supervisor},
      supervisor_start("attempt_sup", {strategy::simple_one_for_one, 3, milliseconds{60'000}}, {},
                       runner::attempt_template()),
      spec.attempt_sup};
  child solo{{"solo", restart_type::temporary, {}, child_kind::worker},
             [spec](caf::local_actor* by) { return runner::spawn_solo(by->system(), spec); },
             spec.self};
  out.children = {zone_child, attempts, solo};
  return out;
}

/// Runs it; the first signal cancels the run, a second one ends the process.
result<runner::solo_end> run_solo(const std::shared_ptr<zone::privileged_helper>& helper,
                                  runner::solo_spec spec) {
  std::optional<hard_deadline> stop;
  system_config config;
  caf::actor_system system{config};
  auto w = wire_solo(system, helper, std::move(spec));
  const auto root = spawn_supervisor(system, "root", tree_flags, w.children);
  const auto watcher = watch_root(system, root);
  result<runner::solo_end> out = fail(ec::defect, "the run's actors ended without an answer");
  auto over = std::make_shared<std::promise<void>>();
  auto future = over->get_future();
  std::thread asker{[&system, &out, &w, over] {
    caf::scoped_actor self{system};
    self->request(w.runner, caf::infinite, runner::run_atom::value)
        .receive([&](const runner::solo_end& e) { out = e; },
                 [&](const caf::error& e) { out = fail(from_caf(e)); });
    over->set_value();
  }};
  bool is_cancelled = false;
  while (future.wait_for(std::chrono::seconds{0}) != std::future_status::ready) {
    const int signal = wait_signal(milliseconds{20});
    if (signal == 0) continue;
    if (is_cancelled) ::_exit(130);  // The helper sees us go, and ends the zone.
    is_cancelled = true;
    if (signal == SIGUSR1) break;
    caf::scoped_actor self{system};
    self->send(w.runner, runner::cancel_atom::value, "interrupted");
  }
  stop.emplace(milliseconds{20'000});
  stop_tree(system, root, w);
  asker.join();
  w = {};
  return out;
}

json run_json(const profile_args& a, const runner::solo_end& end, const collected& got) {
  return {{"source", a.spec},
          {"verdict", domain::to_string(end.last.how)},
          {"reason", end.last.reason},
          {"profile", {{"made", !got.packed.empty()}, {"reason", no_profile(*end.last.receipt)}}},
          {"attempts", end.attempts},
          {"receipt", *end.last.receipt},
          {"events", got.events}};
}

std::string subtitle(const json& receipt) {
  return fmt::format("{} samples of {} at {} Hz · script {}", receipt.value("samples", 0),
                     receipt.value("event", "?"), receipt.value("frequency", 0),
                     receipt.value("script", "?"));
}

/// The hottest functions of the package itself: its author can change these.
profiler::stack_set only_script_frames(const profiler::stack_set& all) {
  profiler::stack_set out;
  std::vector<profiler::stack_set::frame_id> path;
  for (std::size_t n = 1; n < all.nodes().size(); ++n) {
    if (all.nodes()[n].self == 0) continue;
    path.clear();
    for (auto at = static_cast<profiler::stack_set::node_id>(n); at != 0;
         at = all.nodes()[at].parent) {
      const auto& name = all.name(all.nodes()[at].frame);
      if (name.ends_with("_[j]") && name.find(".js:") != std::string::npos &&
          name.find("node:") == std::string::npos && name.find(" /usr/") == std::string::npos)
        path.push_back(out.intern(name.substr(0, name.size() - 4)));
    }
    std::reverse(path.begin(), path.end());
    // The sums of the whole set did not overflow, so those of a part do not.
    if (!path.empty()) [[maybe_unused]]
      const auto added = out.add(path, all.nodes()[n].self);
  }
  return out;
}

/// The flame graph's files and the tables for a person; no table without stacks.
result<std::string> write_stacks(const profile_args& a, const runner::solo_end& end,
                                 const std::string& packed) {
  if (packed.empty()) return std::string{};
  const auto folded = unzstd(packed);
  if (!folded) return fail(folded.error());
  auto stacks = profiler::fold_folded(*folded, {});
  if (!stacks) return fail(stacks.error());
  const auto& receipt = *end.last.receipt;
  const profiler::flame_options options{a.spec + " · script " + receipt.value("script", "?"),
                                        subtitle(receipt)};
  const std::pair<const char*, std::string> files[] = {
      {"stacks.folded", *folded},
      {"flame.svg", flame_svg(stacks->stacks, options)},
      {"flame.html", flame_html(stacks->stacks, options)}};
  for (const auto& [name, content] : files)
    if (auto w = write_file_durably(a.folder + "/" + name, content, 0644); !w)
      return fail(w.error());
  const auto width = terminal_width();
  return fmt::format(
      "Hottest frames\n"
      "{}\n"
      "Hottest frames of the script's own files, as shares of the time in them\n"
      "{}\n",
      profiler::hottest_table(stacks->stacks, 15, width),
      profiler::hottest_table(only_script_frames(stacks->stacks), 15, width));
}

int write_results(const profile_args& a, const runner::solo_end& end, const collected& got) {
  const auto put_file = [&](const char* name, const std::string& content) {
    return write_file_durably(a.folder + "/" + name, content, 0644);
  };
  auto run = run_json(a, end, got);
  if (auto made = make_folders(a.folder, 0755); !made) return report(made.error(), a.as_json);
  if (auto w = put_file("output.log", got.output); !w) return report(w.error(), a.as_json);
  if (auto w = put_file("run.json", run.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
      !w)
    return report(w.error(), a.as_json);
  const auto tables = write_stacks(a, end, got.packed);
  if (!tables) return report(tables.error(), a.as_json);
  const auto& last = end.last;
  const auto missing = no_profile(*last.receipt);
  if (a.as_json) {
    run.erase("events");
    run["folder"] = a.folder;
    std::cout << run.dump(-1, ' ', false, json::error_handler_t::replace) << "\n";
  } else {
    const auto folder = std::filesystem::absolute(a.folder).lexically_normal().string();
    if (!missing.empty())
      std::cout << "NO FLAME GRAPH: " << for_terminal(missing)
                << "; `ntrace doctor` tries what profiling needs\n";
    std::cout << *tables << a.spec << ": " << domain::to_string(last.how)
              << (last.reason.empty() ? "" : " (" + for_terminal(last.reason) + ")") << "\n"
              << (tables->empty() ? "events: " + folder + "/run.json\n"
                                  : "flame graph: " + folder + "/flame.svg\n");
  }
  return with_profile(run_exit_code(std::string{domain::to_string(last.how)}, last.reason), missing,
                      a.require_profile);
}

int profile(profile_args a) {
  auto s = a.flags->load();
  if (!s) return report(s.error(), a.as_json);
  const auto source = runner::parse_source_spec(a.spec);
  if (!source) return report({ec::bad_config, source.error().message, {}}, a.as_json);
  log::set_level(s->value("log_level").origin == "default" ? "warn" : s->text("log_level"));
  if (a.folder.empty()) a.folder = "ntrace-" + source->name;
  if (source->kind == runner::source_kind::dir)
    a.spec = std::filesystem::absolute(a.spec).lexically_normal().string();
  auto helper_options = helper_options_from(*s);
  if (::geteuid() != 0 && s->value("zone_allow_degraded").origin == "default") {
    std::cerr << "ntrace: as an ordinary user the zone has one user id and no limits; see `ntrace "
                 "doctor`\n";
    helper_options.allow_degraded = true;
  }
  auto options = attempt_options_from(*s);
  if (!options) return report(options.error(), a.as_json);
  auto helper = zone::privileged_helper::start(helper_options);
  if (!helper) return report(helper.error(), a.as_json);
  block_signals();
  random_source random{random_seed()};
  const auto uuid = make_uuid(random);
  if (auto made = (*helper)->call({{"op", "create"}, {"uuid", uuid}}); !made)
    return report(made.error(), a.as_json);
  auto got = std::make_shared<collected>();
  runner::solo_spec spec;
  spec.options = *options;
  spec.source = a.spec;
  spec.worker = uuid;
  spec.attempts = static_cast<unsigned>(s->number("attempts"));
  spec.backoff = {s->duration("backoff_min_ms"), s->duration("backoff_max_ms")};
  spec.on_chunk = [got](std::uint64_t attempt, domain::stream stream, const std::string& data) {
    got->take(attempt, stream, data);
  };
  const auto end = run_solo(*helper, std::move(spec));
  const auto gone = (*helper)->call({{"op", "destroy"}, {"uuid", uuid}});
  helper->reset();
  if (!end) return report(end.error(), a.as_json);
  const int code = write_results(a, *end, *got);
  if (!gone) return report(gone.error(), a.as_json);
  return code;
}

}  // namespace

void add_profile(cli::app app, outcome& out) {
  const auto sub = app.add_subcommand(
      "profile", "The whole job once: DIR, git+URL#REV, npm:NAME@VERSION or github:OWNER/REPO@SHA");
  auto a = std::make_shared<profile_args>();
  a->flags = std::make_shared<setting_flags>(
      sub, std::vector<setting_key>{"data", "npm_registry", "network_allow", "install_ms", "run_ms",
                                    "zone_memory_bytes", "zone_cpu_percent", "zone_backend",
                                    "zone_allow_degraded", "perf_frequency"});
  sub.add_option("SPEC", a->spec, "the source").required();
  sub.add_option("-o,--output", a->folder, "folder for the results; ntrace-NAME when absent")
      .type_name("DIR");
  sub.add_flag("--json", a->as_json, "print JSON");
  add_require_profile(sub, a->require_profile);
  sub.callback([&out, a] { out.run = [a] { return profile(*a); }; });
}

}  // namespace ntrace::tools
