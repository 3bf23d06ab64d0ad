#include "tools/wire.hpp"

#include <unistd.h>
#include <caf/io/middleman.hpp>

#include "actors/dashboard/webhook_actor.hpp"
#include "actors/dispatcher/dispatcher_actor.hpp"
#include "actors/dispatcher/push_intake.hpp"
#include "actors/journal/journal_monitor_actor.hpp"
#include "actors/rpc/rpc_link_actor.hpp"
#include "actors/rpc/rpc_server_actor.hpp"
#include "actors/runner/outbox_actor.hpp"
#include "actors/shell/shell_actor.hpp"
#include "actors/tunnel/tunnel_actor.hpp"
#include "actors/tunnel/tunnel_settings.hpp"
#include "tools/command.hpp"

namespace ntrace::tools {
namespace {

using namespace supervision;

// Each child needs the ones above it. After more than 3 restarts in 60 s the role gives up to the
// root, which has the same bound for its roles.
constexpr supervisor_flags role_flags{strategy::rest_for_one, 3, milliseconds{60'000}};
// From 50 ms doubled to 5 s, ± 20 %; after 30 s without an end it begins at 50 ms again.
constexpr restart_backoff role_backoff{milliseconds{50}, milliseconds{5000}, 2, 0.2,
                                       milliseconds{30'000}};
// One broken machine breaks all of its zones at about the same time: that must not end the runner.
constexpr supervisor_flags zone_flags{strategy::simple_one_for_one, 20, milliseconds{60'000}};
constexpr supervisor_flags attempt_flags{strategy::simple_one_for_one, 3, milliseconds{60'000}};

/// Makes façades, which others may hold before the children behind them are started.
class builder {
public:
  builder(caf::actor_system& system, wired& out) : system_{system}, out_{out} {}

  /// `resend` is for requests that may be repeated: see facade_options.
  caf::actor front(bool resend = true) {
    facade_options options;
    options.resend = resend;
    out_.fronts.push_back(spawn_facade(system_, options));
    return out_.fronts.back();
  }
  static child worker(const char* id, caf::actor front, start_function start) {
    child_spec spec{id};
    spec.backoff = role_backoff;
    return {std::move(spec), std::move(start), std::move(front)};
  }
  static child supervisor(const char* id, caf::actor front, supervisor_flags flags,
                          const std::vector<child>& children,
                          const std::optional<child_spec>& of = {}) {
    return {{id, restart_type::permanent, shutdown_policy::infinity(), child_kind::supervisor},
            supervisor_start(id, flags, children, of),
            std::move(front)};
  }

private:
  caf::actor_system& system_;
  wired& out_;
};

/// The order of its children is that of docs/architecture.md: rest_for_one counts on it.
result<child> dispatcher_role(const settings& s, builder& make, wired& out) {
  const auto at = parse_host_port(s.text("dispatcher"));
  if (!at) return fail(at.error());
  const auto path = s.text("data") + "/journal.sqlite";
  dispatcher::dispatcher_parts parts;
  parts.options.lease = s.duration("lease_ms");
  parts.options.offer = s.duration("offer_ms");
  parts.options.consumer_silence = s.duration("consumer_silence_ms");
  parts.options.attempts = static_cast<unsigned>(s.number("attempts"));
  parts.options.backoff = {s.duration("backoff_min_ms"), s.duration("backoff_max_ms")};
  parts.options.outage_patience = s.duration("outage_patience_ms");
  parts.options.source_template = s.text("source_template");
  const journal::retention keep{std::chrono::hours{24} * s.number("retain_days"),
                                s.number("journal_bytes")};
  parts.root = out.root;
  parts.gate = std::make_shared<dispatcher::push_gate>();
  parts.journal = make.front(false);
  parts.reader = make.front();
  parts.monitor = make.front();
  parts.server = out.dispatcher_server = make.front(false);  // The webhook pushes by it.
  out.dispatcher = make.front(false);
  const auto served = out.dispatcher;
  const auto intake =
      dispatcher::push_intake(parts.options.source_template, parts.journal, parts.gate);
  auto queue = builder::worker("dispatcher", out.dispatcher, [parts](caf::local_actor* by) {
    return dispatcher::spawn_dispatcher(by->system(), parts);
  });
  queue.reports_ready = true;  // A damaged journal is found before the first push is acknowledged.
  std::vector<child> children{
      builder::worker("journal", parts.journal,
                      [path, keep, gate = parts.gate](caf::local_actor* by) {
                        return journal::spawn_journal(by->system(), path, keep, gate);
                      }),
      builder::worker("journal_reader", parts.reader,
                      [path](caf::local_actor* by) {
                        return journal::spawn_journal_reader(by->system(), path);
                      }),
      queue,
      builder::worker("rpc_server", parts.server, [to = *at, served, intake](caf::local_actor* by) {
        return rpc::spawn_rpc_server(by->system(), to, served, intake);
      })};
  if (!s.text("webhook").empty()) {
    const auto listen = parse_host_port(s.text("webhook"));
    if (!listen) return fail(listen.error());
    const dashboard::webhook_options hook{*listen, s.text("webhook_secret_file")};
    out.webhook = make.front();
    children.push_back(
        builder::worker("webhook", out.webhook, [hook, to = parts.server](caf::local_actor* by) {
          return dashboard::spawn_webhook(by->system(), hook, to);
        }));
  }
  // The last one: its failures disturb no other child.
  children.push_back(
      builder::worker("journal_monitor", parts.monitor,
                      [path, attempts = parts.options.attempts](caf::local_actor* by) {
                        return journal::spawn_journal_monitor(by->system(), path, attempts);
                      }));
  return builder::supervisor("dispatcher_sup", nullptr, role_flags, children);
}

result<child> runner_role(const settings& s, builder& make, wired& out,
                          const std::shared_ptr<zone::privileged_helper>& helper) {
  const auto at = parse_host_port(s.text("runner"));
  const auto to = parse_host_port(s.text("dispatcher"));
  if (!at || !to) return fail(at ? to.error() : at.error());
  auto options = attempt_options_from(s);
  if (!options) return fail(options.error());
  runner::runner_parts parts;
  parts.options = *options;
  parts.data = s.text("data");
  parts.workers = static_cast<std::size_t>(s.number("workers"));
  parts.name = s.text("runner_name");
  if (parts.name.empty()) {
    char host[256] = "runner";
    ::gethostname(host, sizeof host - 1);
    parts.name = host;
  }
  parts.helper = helper;
  parts.root = out.root;
  parts.link = make.front();
  parts.outbox = make.front();
  parts.zone_sup = make.front();
  parts.attempt_sup = make.front();
  parts.self = out.runner = make.front();
  auto dial = *to;
  std::optional<tunnel::tunnel_settings> through;
  if (!s.text("tunnel").empty()) {
    auto read = tunnel::tunnel_settings_from(s);
    if (!read) return fail(read.error());
    dial = read->listen;
    through = std::move(*read);
    parts.tunnel = make.front();
  }
  out.runner_server = make.front();
  const auto served = out.runner;
  runner::outbox_options outbox{parts.data + "/outbox.sqlite", {}};
  outbox.bounds.bytes_max = static_cast<std::size_t>(s.number("outbox_bytes"));
  outbox.bounds.attempt_bytes_max =
      std::min(outbox.bounds.attempt_bytes_max, outbox.bounds.bytes_max / 2);
  std::vector<child> children{
      builder::worker("outbox", parts.outbox,
                      [parts, outbox](caf::local_actor* by) {
                        return runner::spawn_outbox(by->system(), outbox, parts.link, parts.self);
                      }),
      builder::supervisor("zone_sup", parts.zone_sup, zone_flags, {}, runner::zone_template()),
      builder::worker(
          "runner", out.runner,
          [parts](caf::local_actor* by) { return runner::spawn_runner(by->system(), parts); }),
      builder::supervisor("attempt_sup", parts.attempt_sup, attempt_flags, {},
                          runner::attempt_template())};
  if (through)
    children.push_back(builder::worker(
        "tunnel", parts.tunnel, [through = *through](caf::local_actor* by) -> result<caf::actor> {
          return tunnel::spawn_tunnel(by->system(), through);
        }));
  children.push_back(builder::worker("link", parts.link,
                                     [dial, served](caf::local_actor* by) -> result<caf::actor> {
                                       return rpc::spawn_rpc_link(by->system(), dial, served);
                                     }));
  children.push_back(
      builder::worker("runner_rpc", out.runner_server, [serve = *at, served](caf::local_actor* by) {
        return rpc::spawn_rpc_server(by->system(), serve, served);
      }));
  return builder::supervisor("runner_sup", nullptr, role_flags, children);
}

/// The last of all, and so the first to stop: it asks the others.
result<child> shell_child(const settings& s, builder& make, wired& out) {
  auto options = shell::shell_options_from(s);
  if (!options) return fail(options.error());
  options->program = program_version();
  const shell::shell_doors doors{out.root, out.dispatcher, out.runner};
  out.shell = make.front();
  return builder::worker("shell", out.shell, [options = *options, doors](caf::local_actor* by) {
    return shell::spawn_shell(by->system(), options, doors);
  });
}

}  // namespace

system_config::system_config() { load<caf::io::middleman>(); }

zone::helper_options helper_options_from(const settings& s) {
  return {s.text("data"), s.text("ca_file"), s.flag("zone_allow_degraded"), s.text("zone_backend")};
}

result<runner::attempt_options> attempt_options_from(const settings& s) {
  runner::attempt_options out;
  out.limits = {static_cast<std::uint64_t>(s.number("zone_memory_bytes")),
                static_cast<std::uint64_t>(s.number("zone_pids")),
                static_cast<std::uint64_t>(s.number("zone_cpu_percent")),
                static_cast<std::uint64_t>(s.number("zone_disk_bytes")),
                s.text("zone_disk") == "memory"};
  if (const auto where = s.text("zone_disk"); where != "disk" && where != "memory")
    return fail(ec::bad_config, "zone_disk is \"" + where + "\"; it is disk or memory");
  if (out.limits.disk_in_memory && out.limits.disk_bytes == 0)
    return fail(ec::bad_config, "zone_disk = memory needs zone_disk_bytes above 0");
  out.output = {static_cast<std::uint64_t>(s.number("output_bytes")),
                static_cast<std::uint64_t>(s.number("output_hard_bytes"))};
  out.boot = s.duration("boot_ms");
  out.install = s.duration("install_ms");
  out.run = s.duration("run_ms");
  out.frequency = static_cast<std::uint64_t>(s.number("perf_frequency"));
  out.npm_registry = s.text("npm_registry");
  out.scratch = s.text("data") + "/scratch";
  out.source = {s.text("npm_registry"), s.text("github_url"),
                s.text("ca_file"),      out.scratch,
                s.duration("fetch_ms"), {}};
  out.egress.bytes_max = static_cast<std::uint64_t>(s.number("network_bytes_max"));
  const auto private_ok = s.list("network_allow_private");
  for (const auto& text : s.list("network_allow")) {
    auto entry = net::parse_allow_entry(text);
    if (!entry) return fail(entry.error());
    entry->allow_private =
        std::find(private_ok.begin(), private_ok.end(), text) != private_ok.end();
    out.egress.allow.push_back(std::move(*entry));
  }
  out.source.allow = out.egress.allow;
  if (auto made = make_folders(out.scratch); !made) return fail(made.error());
  return out;
}

result<wired> wire(caf::actor_system& system, const settings& s, role_set roles,
                   const std::shared_ptr<zone::privileged_helper>& helper) {
  wired out;
  builder make{system, out};
  out.root = make.front();
  const auto add = [&](result<child> role) -> result<void> {
    if (role) {
      out.children.push_back(std::move(*role));
      return {};
    }
    for (const auto& front : out.fronts)
      end_facade(front);  // Otherwise they keep the system from ending.
    return fail(role.error());
  };
  if (roles.dispatcher)
    if (auto added = add(dispatcher_role(s, make, out)); !added) return fail(added.error());
  if (roles.runner)
    if (auto added = add(runner_role(s, make, out, helper)); !added) return fail(added.error());
  if (!s.text("shell").empty() || !s.text("shell_operator").empty())
    if (auto added = add(shell_child(s, make, out)); !added) return fail(added.error());
  return out;
}

}  // namespace ntrace::tools
