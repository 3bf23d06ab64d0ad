#include "tools/wire.hpp"

#include <caf/io/middleman.hpp>

#include "actors/dispatcher/push_intake.hpp"
#include "actors/journal/journal_monitor_actor.hpp"
#include "actors/rpc/rpc_link_actor.hpp"
#include "actors/rpc/rpc_server_actor.hpp"
#include "actors/tunnel/tunnel_actor.hpp"

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
child dispatcher_role(const dispatcher_settings& s, builder& make, wired& out) {
  const auto& path = s.journal;
  dispatcher::dispatcher_parts parts;
  parts.options = s.queue;
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
                      [path, keep = s.keep, gate = parts.gate](caf::local_actor* by) {
                        return journal::spawn_journal(by->system(), path, keep, gate);
                      }),
      builder::worker("journal_reader", parts.reader,
                      [path](caf::local_actor* by) {
                        return journal::spawn_journal_reader(by->system(), path);
                      }),
      queue,
      builder::worker("rpc_server", parts.server,
                      [to = s.listen, served, intake](caf::local_actor* by) {
                        return rpc::spawn_rpc_server(by->system(), to, served, intake);
                      })};
  if (s.webhook) {
    out.webhook = make.front();
    children.push_back(builder::worker(
        "webhook", out.webhook, [hook = *s.webhook, to = parts.server](caf::local_actor* by) {
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

child runner_role(const runner_settings& s, builder& make, wired& out,
                  const std::shared_ptr<zone::privileged_helper>& helper) {
  runner::runner_parts parts;
  parts.options = s.attempt;
  parts.data = s.data;
  parts.workers = s.workers;
  parts.name = s.name;
  parts.helper = helper;
  parts.root = out.root;
  parts.link = make.front();
  parts.outbox = make.front();
  parts.zone_sup = make.front();
  parts.attempt_sup = make.front();
  parts.self = out.runner = make.front();
  if (s.tunnel) parts.tunnel = make.front();
  out.runner_server = make.front();
  const auto served = out.runner;
  std::vector<child> children{
      builder::worker("outbox", parts.outbox,
                      [parts, outbox = s.outbox](caf::local_actor* by) {
                        return runner::spawn_outbox(by->system(), outbox, parts.link, parts.self);
                      }),
      builder::supervisor("zone_sup", parts.zone_sup, zone_flags, {}, runner::zone_template()),
      builder::worker(
          "runner", out.runner,
          [parts](caf::local_actor* by) { return runner::spawn_runner(by->system(), parts); }),
      builder::supervisor("attempt_sup", parts.attempt_sup, attempt_flags, {},
                          runner::attempt_template())};
  if (s.tunnel)
    children.push_back(builder::worker(
        "tunnel", parts.tunnel, [through = *s.tunnel](caf::local_actor* by) -> result<caf::actor> {
          return tunnel::spawn_tunnel(by->system(), through);
        }));
  children.push_back(builder::worker("link", parts.link,
                                     [dial = s.tunnel ? s.tunnel->listen : s.dispatcher,
                                      served](caf::local_actor* by) -> result<caf::actor> {
                                       return rpc::spawn_rpc_link(by->system(), dial, served);
                                     }));
  children.push_back(builder::worker("runner_rpc", out.runner_server,
                                     [serve = s.listen, served](caf::local_actor* by) {
                                       return rpc::spawn_rpc_server(by->system(), serve, served);
                                     }));
  return builder::supervisor("runner_sup", nullptr, role_flags, children);
}

/// The last of all, and so the first to stop: it asks the others.
child shell_child(const shell::shell_options& s, builder& make, wired& out) {
  const shell::shell_doors doors{out.root, out.dispatcher, out.runner};
  out.shell = make.front();
  return builder::worker("shell", out.shell, [options = s, doors](caf::local_actor* by) {
    return shell::spawn_shell(by->system(), options, doors);
  });
}

}  // namespace

system_config::system_config() { load<caf::io::middleman>(); }

wired wire(caf::actor_system& system, const role_settings& s,
           const std::shared_ptr<zone::privileged_helper>& helper) {
  wired out;
  builder make{system, out};
  out.root = make.front();
  if (s.dispatcher) out.children.push_back(dispatcher_role(*s.dispatcher, make, out));
  if (s.runner) out.children.push_back(runner_role(*s.runner, make, out, helper));
  if (s.shell) out.children.push_back(shell_child(*s.shell, make, out));
  return out;
}

}  // namespace ntrace::tools
