#include "tools/serve.hpp"

#include <malloc.h>
#include <signal.h>
#include <unistd.h>
#include <caf/event_based_actor.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>

#include <iostream>
#include <optional>

#include "actors/dispatcher/dispatcher_actor.hpp"
#include "actors/rpc/rpc_server_actor.hpp"
#include "config/folder_lock.hpp"
#include "config/log.hpp"
#include "supervision/caf_types.hpp"
#include "tools/command.hpp"
#include "tools/taken_port.hpp"

namespace ntrace::tools {
namespace {

// A long queue is read, a journal migrated, the helper started.
constexpr milliseconds start_deadline{30'000};
constexpr int arenas_max = 2;  // of malloc

/// SIGUSR1 is ours: watch_root() sends it when the root gives up.
sigset_t waited_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) sigaddset(&set, signal);
  return set;
}

/// 0 also for an actor that is absent or does not answer: nothing is waited for there.
std::uint64_t ask_count(caf::scoped_actor& self, const caf::actor& who, caf::atom_value what) {
  std::uint64_t out = 0;
  if (who)
    self->request(who, std::chrono::seconds{2}, what)
        .receive([&](std::uint64_t n) { out = n; }, [](const caf::error&) {});
  return out;
}

/// Takes no more work and waits for held leases; true when none is left.
bool drain(caf::actor_system& system, const wired& w, milliseconds wait) {
  caf::scoped_actor self{system};
  if (w.dispatcher) self->send(w.dispatcher, dispatcher::stop_atom::value);
  if (w.runner) self->send(w.runner, runner::drain_atom::value, true);
  const auto end = steady_clock::now() + wait;
  while (steady_clock::now() < end) {
    const auto held = ask_count(self, w.dispatcher, dispatcher::idle_atom::value) +
                      ask_count(self, w.runner, runner::idle_atom::value);
    if (held == 0) return true;
    if (wait_signal(milliseconds{100}) != 0) return false;
  }
  return false;
}

/// The port that the kernel chose where the setting says 0; 0 without that server.
std::uint16_t port_of(caf::scoped_actor& self, const caf::actor& server) {
  std::uint16_t out = 0;
  if (server)
    self->request(server, std::chrono::seconds{5}, rpc::port_atom::value)
        .receive([&](std::uint16_t p) { out = p; }, [](const caf::error&) {});
  return out;
}

/// The viewers' and the operators'.
std::pair<std::uint16_t, std::uint16_t> shell_ports(caf::scoped_actor& self,
                                                    const caf::actor& shell) {
  std::pair<std::uint16_t, std::uint16_t> out{0, 0};
  if (shell)
    self->request(shell, std::chrono::seconds{5}, rpc::port_atom::value)
        .receive(
            [&](std::uint16_t view, std::uint16_t act) {
              out = {view, act};
            },
            [](const caf::error&) {});
  return out;
}

/// A failed start names each supervisor on the way. An operator needs the first cause.
error first_cause(error e) {
  for (const std::string_view way : {"did not start: ", "child_failed: "})
    if (const auto at = e.message.rfind(way); at != std::string::npos)
      e.message.erase(0, at + way.size());
  const auto colon = e.message.find(": ");
  const auto code = ec_from_string(std::string_view{e.message}.substr(0, colon));
  if (colon == std::string::npos || code == ec::none) return e;
  return {code, e.message.substr(colon + 2), {}};
}

error reason_of(const caf::down_msg& down) {
  return {ec::child_failed, to_string(supervision::exit_reason_of(down.reason)), {}};
}

/// No error once all children run and the runner is ready; else the first cause.
error wait_until_up(caf::actor_system& system, const caf::actor& root, const wired& w) {
  caf::scoped_actor self{system};
  error out;
  const auto failed = [&](const caf::error& e) { out = supervision::from_caf(e); };
  self->monitor(root);
  self->request(root, start_deadline, supervision::wait_atom::value)
      .receive([](caf::ok_atom) {}, failed);
  // If the root ended before it was asked, its exit reason says why.
  if (out.code != ec::none)
    self->receive([&](const caf::down_msg& d) { out = reason_of(d); },
                  caf::after(std::chrono::seconds{1}) >> [] {});
  if (out.code == ec::none && w.runner)
    self->request(w.runner, start_deadline, runner::ready_atom::value).receive([] {}, failed);
  return first_cause(std::move(out));
}

/// The one line that scripts wait for. std::endl: it must be there before anything is asked.
void print_ready(caf::actor_system& system, const wired& w, const role_settings& s, bool as_json) {
  caf::scoped_actor self{system};
  const auto dispatcher_port = port_of(self, w.dispatcher_server);
  const auto runner_port = port_of(self, w.runner_server);
  const auto webhook_port = port_of(self, w.webhook);
  const auto [shell_port, operator_port] = shell_ports(self, w.shell);
  if (as_json) {
    std::cout << json{{"ready", true},
                      {"dispatcher_port", dispatcher_port},
                      {"runner_port", runner_port},
                      {"webhook_port", webhook_port},
                      {"shell_port", shell_port},
                      {"shell_operator_port", operator_port},
                      {"data", s.process.data}}
                     .dump()
              << std::endl;
    return;
  }
  std::cout << "ready";
  if (dispatcher_port != 0)
    std::cout << " dispatcher=" << s.dispatcher->listen.host << ":" << dispatcher_port;
  if (runner_port != 0) std::cout << " runner=" << s.runner->listen.host << ":" << runner_port;
  if (webhook_port != 0)
    std::cout << " webhook=" << s.dispatcher->webhook->listen.host << ":" << webhook_port;
  if (shell_port != 0) std::cout << " shell=" << s.shell->view->host << ":" << shell_port;
  if (operator_port != 0)
    std::cout << " shell_operator=" << s.shell->act->host << ":" << operator_port;
  std::cout << " data=" << s.process.data << std::endl;
}

std::vector<folder_role> folder_roles(role_set roles) {
  std::vector<folder_role> out;
  if (roles.dispatcher) out.push_back(folder_role::dispatcher);
  if (roles.runner) out.push_back(folder_role::runner);
  return out;
}

}  // namespace

void block_signals() {
  const auto set = waited_signals();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

int wait_signal(milliseconds wait) {
  const auto set = waited_signals();
  const timespec time{wait.count() / 1000, (wait.count() % 1000) * 1'000'000};
  const int signal = ::sigtimedwait(&set, nullptr, &time);
  return signal > 0 ? signal : 0;
}

hard_deadline::hard_deadline(milliseconds deadline, int code)
    : clock_{[deadline, code, met = met_.get_future()] {
        if (met.wait_for(deadline) == std::future_status::ready) return;
        log::error("process.hard_exit", {{"after_ms", deadline.count()}});
        ::_exit(code);
      }} {}

hard_deadline::~hard_deadline() {
  met_.set_value();
  clock_.join();
}

caf::actor watch_root(caf::actor_system& system, const caf::actor& root) {
  return system.spawn<caf::hidden>([root](caf::event_based_actor* self) -> caf::behavior {
    self->monitor(root);
    self->set_down_handler([self](const caf::down_msg&) {
      ::kill(::getpid(), SIGUSR1);
      self->quit();
    });
    return {[](int) {}};
  });
}

void stop_tree(caf::actor_system& system, const caf::actor& root, const wired& w) {
  caf::scoped_actor self{system};
  self->send_exit(root, caf::exit_reason::user_shutdown);
  self->wait_for(root);
  for (const auto& front : w.fronts) supervision::end_facade(front);
}

int serve(const settings& s, role_set roles, bool as_json) {
  const auto process = process_settings_from(s);
  log::set_level(process.log_level);
  if (auto made = make_folders(process.data); !made) return report(made.error(), as_json);
  // First of all, and held to the end: files of another owner are neither read nor repaired.
  const auto owned = folder_lock::take(process.data, folder_roles(roles));
  if (!owned) return report(owned.error(), as_json);
  if (auto ports = check_ports(s, roles); !ports) return report(ports.error(), as_json);
  const auto all = role_settings_from(s, roles);
  if (!all) return report(all.error(), as_json);
  std::shared_ptr<zone::privileged_helper> helper;
  if (all->runner) {
    auto started = zone::privileged_helper::start(all->runner->helper);
    if (!started) return report(started.error(), as_json);
    helper = std::move(*started);
  }
  // Threads come and go with their actors. By default each has an arena, and a process that lives
  // for months keeps several times the memory that it needs. mallopt(3)
  ::mallopt(M_ARENA_MAX, arenas_max);
  block_signals();
  int code = 0;
  std::optional<hard_deadline> stop;
  {
    system_config config;
    caf::actor_system system{config};
    auto w = wire(system, *all, helper);
    const auto root = supervision::spawn_supervisor(
        system, "root", {supervision::strategy::one_for_one, 3, milliseconds{60'000}}, w.children);
    const auto watcher = watch_root(system, root);
    supervision::point_facade(w.root, root);
    if (const auto failed = wait_until_up(system, root, w); failed.code != ec::none) {
      code = report(failed, as_json);
    } else {
      print_ready(system, w, *all, as_json);
      int signal = std::cout ? 0 : SIGTERM;  // Nobody could read that it serves, and where.
      while (signal == 0) signal = wait_signal(milliseconds{60'000});
      if (signal == SIGUSR1) {
        log::error("process.root_gave_up", {});
        code = 70;
      } else {
        log::info("process.draining", {{"signal", signal}});
        const bool idle = drain(system, w, process.drain);
        log::info("process.stopping", {{"idle", idle ? "yes" : "no"}});
      }
    }
    stop.emplace(process.stop);
    stop_tree(system, root, w);
    w.children.clear();
  }
  helper.reset();
  return code;
}

}  // namespace ntrace::tools
