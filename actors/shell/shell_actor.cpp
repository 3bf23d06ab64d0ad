#include "actors/shell/shell_actor.hpp"

#include <fmt/core.h>
#include <unistd.h>
#include <caf/event_based_actor.hpp>
#include <caf/io/middleman.hpp>
#include <caf/openssl/manager.hpp>
#include <caf/openssl/publish.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>

#include <mutex>

#include "actors/rpc/rpc_server_actor.hpp"
#include "actors/rpc/rpc_types.hpp"
#include "actors/shell/shell_audit.hpp"
#include "actors/shell/shell_commands.hpp"
#include "config/gauges.hpp"
#include "config/log.hpp"
#include "config/tls_files.hpp"
#include "supervision/caf_config.hpp"
#include "supervision/caf_types.hpp"
#include "supervision/supervisor_actor.hpp"

namespace ntrace::shell {
namespace {

using nlohmann::json;

constexpr std::chrono::seconds answer_max{5};      // so that the process's end need not wait for it
constexpr std::chrono::seconds act_max{15};        // a stop waits for the child's own deadline
constexpr std::size_t requests_waiting_max = 256;  // CAF bounds no mailbox

/// To the process's actor: a listener's has ended.
using lost_atom = caf::atom_constant<caf::atom("lost")>;

/// Paths of PEM files. `ca` signs the certificates of peers.
struct tls_files {
  std::string cert, key, ca;
};

/// Of one listener: nothing of the process is in it but its own actor.
struct listener_config : supervision::caf_config {
  explicit listener_config(const std::optional<tls_files>& tls) : caf_config{2} {
    load<caf::io::middleman>();
    if (!tls) return;
    openssl_certificate = tls->cert;
    openssl_key = tls->key;
    openssl_cafile = tls->ca;
    load<caf::openssl::manager>();
  }
};

/// The actor that peers speak to. What it asks blocks: it has the system's workers for itself. It
/// is not detached, because a system waits at its end until nobody refers to its detached actors
/// any more, and CAF's middleman sometimes does for ever.
caf::behavior serve(caf::event_based_actor* self, const commands& all) {
  supervision::guard(self, "shell");
  const auto refused = [](const char* why) {
    return json{{"version", protocol_version},
                {"error", {{"code", to_string(ec::overloaded)}, {"message", why}}}}
        .dump();
  };
  return {[=](const std::string& request) {
    ++gauges::value("shell_requests");
    // Saying no takes next to no time, so that what peers send without waiting does not pile up.
    if (self->mailbox().size() > requests_waiting_max) {
      ++gauges::value("shell_requests_refused");
      return refused("too many requests wait; ask again when there are answers");
    }
    auto text = all.answer(request).dump(-1, ' ', false, json::error_handler_t::replace);
    return text.size() <= answer_bytes_max ? text : refused("the answer is too long; ask for less");
  }};
}

/// Tells the process's actor, once there is one, that a peer or a bug has ended what peers speak
/// to.
class loss {
public:
  void happened() {
    const std::lock_guard held{mutex_};
    is_lost_ = true;
    tell();
  }
  void tell_to(const caf::actor& whom) {
    const std::lock_guard held{mutex_};
    whom_ = caf::actor_cast<caf::actor_addr>(whom);
    tell();
  }

private:
  void tell() {
    if (const auto whom = caf::actor_cast<caf::actor>(whom_); whom && is_lost_)
      caf::anon_send(whom, lost_atom::value);
  }
  std::mutex mutex_;
  caf::actor_addr whom_;
  bool is_lost_ = false;
};

/// One address with its actor system, which holds one actor.
class listener {
public:
  listener(const std::optional<tls_files>& tls, faces process, role of)
      : is_encrypted_{tls.has_value()},
        config_{tls},
        system_{config_},
        front_{system_.spawn(serve, commands{std::move(process), of})} {}
  listener(const listener&) = delete;
  listener& operator=(const listener&) = delete;
  ~listener() { caf::anon_send_exit(front_, caf::exit_reason::kill); }

  /// The port that it listens on.
  result<std::uint16_t> listen(const host_port& at) {
    auto port = is_encrypted_ ? caf::openssl::publish(front_, at.port, at.host.c_str())
                              : system_.middleman().publish(front_, at.port, at.host.c_str());
    if (port) return *port;
    return fail(ec::unreachable,
                fmt::format("shell: cannot listen on {}: {}; another program may, see `ss -ltnp`",
                            at.text(), system_.render(port.error())));
  }
  void watch(const std::shared_ptr<loss>& to) {
    front_->attach_functor([to] { to->happened(); });
  }

private:
  bool is_encrypted_;
  listener_config config_;
  caf::actor_system system_;
  caf::actor front_;
};

faces::ask asker(caf::actor_system& system, const caf::actor& whom) {
  if (!whom) return {};
  return [&system, whom](std::string_view method, json args) {
    result<json> out = fail(ec::timed_out, "it does not answer");
    caf::scoped_actor self{system};
    self->request(whom, answer_max, rpc::call{0, std::string{method}, std::move(args), "shell"})
        .receive([&](const rpc::served& s) { out = s.value; },
                 [&](const caf::error& e) { out = fail(supervision::from_caf(e)); });
    return out;
  };
}

faces faces_of(caf::actor_system& system, const shell_options& options, const shell_doors& doors,
               const std::shared_ptr<shell_audit>& audit) {
  faces out;
  out.dispatcher = asker(system, doors.dispatcher);
  out.runner = asker(system, doors.runner);
  out.tree = [&system, root = doors.root] {
    result<json> tree = fail(ec::timed_out, "the supervisors do not answer");
    caf::scoped_actor self{system};
    self->request(root, answer_max, supervision::tree_atom::value)
        .receive([&](const std::string& text) { tree = json::parse(text, nullptr, false); },
                 [&](const caf::error& e) { tree = fail(supervision::from_caf(e)); });
    return tree;
  };
  out.child = [&system, root = doors.root](std::string_view verb, const std::string& path) {
    result<void> done = fail(ec::timed_out, "the supervisors do not answer");
    caf::scoped_actor self{system};
    self->request(root, act_max, supervision::act_atom::value, std::string{verb}, path)
        .receive([&](const std::string&) { done = {}; },
                 [&](const caf::error& e) { done = fail(supervision::from_caf(e)); });
    return done;
  };
  out.audit = [audit](const json& entry) {
    log::warn("shell.act", {{"command", entry["command"].get<std::string>()},
                            {"args", entry["args"].dump()},
                            {"by", entry["by"].get<std::string>()}});
    ++gauges::value("shell_acts");
    auto noted = audit->note(entry);
    if (!noted) ++gauges::value("shell_audit_failures");
    return noted;
  };
  out.may_inject = options.may_inject;
  out.program = options.program;
  return out;
}

bool is_loopback(const host_port& at) { return at.host == "127.0.0.1" || at.host == "::1"; }

}  // namespace

result<shell_options> shell_options_from(const settings& s) {
  shell_options out;
  out.cert_file = s.text("shell_cert_file");
  out.key_file = s.text("shell_key_file");
  out.ca_file = s.text("shell_operator_ca_file");
  out.viewer_ca_file = s.text("shell_viewer_ca_file");
  out.audit_file = s.text("data") + "/shell_audit.jsonl";
  out.may_inject = s.flag("faults");
  for (const auto& [text, at] :
       {std::pair{s.text("shell"), &out.view}, {s.text("shell_operator"), &out.act}}) {
    if (text.empty()) continue;
    auto read = parse_host_port(text);
    if (!read) return fail(read.error());
    *at = *read;
  }
  if (out.view && out.viewer_ca_file.empty() && !is_loopback(*out.view))
    return fail(ec::bad_config, "shell = " + out.view->text() +
                                    " can be reached from outside: give shell_viewer_ca_file, or "
                                    "listen on 127.0.0.1");
  const bool has_tls = out.act || (out.view && !out.viewer_ca_file.empty());
  if (!has_tls) return out;
  // With one of them missing CAF would take any peer.
  std::vector<std::pair<const char*, const std::string*>> needed{
      {"shell_cert_file", &out.cert_file}, {"shell_key_file", &out.key_file}};
  if (out.act) needed.emplace_back("shell_operator_ca_file", &out.ca_file);
  if (!out.viewer_ca_file.empty()) needed.emplace_back("shell_viewer_ca_file", &out.viewer_ca_file);
  for (const auto& [key, path] : needed) {
    if (path->empty())
      return fail(ec::bad_config, std::string{key} + " is not set, and the shell needs it");
    if (::access(path->c_str(), R_OK) != 0)
      return fail(ec::bad_config, std::string{key} + ": " + *path + " cannot be read");
  }
  if (auto fits = check_certificate(out.cert_file, out.key_file); !fits) return fail(fits.error());
  for (const auto* path : {&out.ca_file, &out.viewer_ca_file})
    if (!path->empty())
      if (const auto held = read_authorities(*path); !held) return fail(held.error());
  return out;
}

result<caf::actor> spawn_shell(caf::actor_system& system, const shell_options& options,
                               const shell_doors& doors) {
  const auto audit = std::make_shared<shell_audit>(options.audit_file);
  const auto process = faces_of(system, options, doors, audit);
  auto both = std::make_shared<std::vector<std::unique_ptr<listener>>>();
  std::uint16_t view_port = 0, act_port = 0;
  const auto open = [&](const host_port& at, const std::string& ca, role of,
                        std::uint16_t& port) -> result<void> {
    const auto tls = ca.empty() ? std::nullopt
                                : std::optional{tls_files{options.cert_file, options.key_file, ca}};
    both->push_back(std::make_unique<listener>(tls, process, of));
    auto opened = both->back()->listen(at);
    if (!opened) return fail(opened.error());
    port = *opened;
    log::info("shell.listening", {{"address", at.host},
                                  {"port", port},
                                  {"role", of == role::viewer ? "viewer" : "operator"}});
    return {};
  };
  if (options.view)
    if (auto opened = open(*options.view, options.viewer_ca_file, role::viewer, view_port); !opened)
      return fail(opened.error());
  if (options.act)
    if (auto opened = open(*options.act, options.ca_file, role::operator_, act_port); !opened)
      return fail(opened.error());
  const auto lost = std::make_shared<loss>();
  for (const auto& one : *both) one->watch(lost);
  // Detached: ending a listener waits for its threads.
  const auto made = system.spawn<caf::detached>(
      [both, view_port, act_port](caf::event_based_actor* self) mutable -> caf::behavior {
        supervision::guard(self, "shell");
        self->attach_functor([both = std::exchange(both, nullptr)]() mutable { both.reset(); });
        return {[view_port, act_port](rpc::port_atom) -> caf::result<std::uint16_t, std::uint16_t> {
                  return {view_port, act_port};
                },
                [self](lost_atom) {
                  self->quit(supervision::to_caf({ec::child_failed, "a peer ended it", {}}));
                }};
      });
  lost->tell_to(made);
  return made;
}

}  // namespace ntrace::shell
