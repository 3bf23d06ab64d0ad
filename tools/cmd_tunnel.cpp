// tunnel keygen|trust|test|run|status|retry: an operator sets up a runner's tunnel and looks at it.
#include <fmt/core.h>
#include <poll.h>

#include <iostream>

#include "actors/tunnel/tunnel_settings.hpp"
#include "config/base64.hpp"
#include "config/log.hpp"
#include "config/random.hpp"
#include "net/ssh_keygen.hpp"
#include "net/tcp_connector.hpp"
#include "tools/command.hpp"
#include "tools/serve.hpp"

namespace ntrace::tools {
namespace {

constexpr milliseconds step_deadline{10'000};  // of each step of `tunnel test`

struct tunnel_args {
  std::shared_ptr<setting_flags> flags;
  server_flags server;
  std::string to, fingerprint;
  bool as_json = false, accept = false;
};

/// One dial, step by step, on the caller's thread.
class trial {
public:
  struct step {
    std::string name, said;
    milliseconds took;
  };

  /// Brings a session up and opens its target, or says why not. steps() has the steps.
  result<void> run(const host_port& at, net::ssh_session_options options, bool with_target) {
    began_ = steady_clock::now();
    const auto target = options.target;
    auto socket = connect(at);
    if (!socket) return fail(socket.error());
    done("connect", at.text());
    options.next_id = [] { return net::channel_id{2}; };
    net::ssh_session session{std::move(*socket), std::move(options), steady_clock::now()};
    const auto end = steady_clock::now() + 3 * step_deadline;
    while (steady_clock::now() < end) {
      for (const auto& event : session.pump(steady_clock::now())) {
        if (const auto* failed = std::get_if<net::ssh_ended>(&event)) return fail(failed->why);
        if (std::holds_alternative<net::ssh_banner>(event)) done("banner", "an SSH server");
        if (const auto* up = std::get_if<net::ssh_authenticated>(&event)) {
          done("host key and login",
               fmt::format("{}, {}, {}", up->server, up->key_exchange, up->cipher));
          session.probe();
        }
        if (std::holds_alternative<net::ssh_probe_answered>(event)) {
          done("probe", "the server answers");
          if (!with_target) return {};
          session.open(1);
        }
        if (std::holds_alternative<net::ssh_opened>(event)) {
          done("target", target.text() + " answers behind the server");
          session.disconnect();
          return {};
        }
        if (const auto* refused = std::get_if<net::ssh_open_refused>(&event))
          return fail(ec::unreachable, refused->reason);
      }
      pollfd fd{session.fd(), static_cast<short>(POLLIN | (session.wants_write() ? POLLOUT : 0)),
                0};
      ::poll(&fd, 1, session.is_busy() ? 0 : 100);
    }
    return fail(ec::timed_out, "the server does not end the handshake in time");
  }
  const std::vector<step>& steps() const { return steps_; }

private:
  static result<unique_fd> connect(const host_port& at) {
    net::tcp_connector connector{at, steady_clock::now(), step_deadline};
    for (;;) {
      if (auto made = connector.pump(steady_clock::now())) {
        if (!*made) return fail(made->error());
        return std::move((*made)->fd);
      }
      pollfd fd{connector.fd(), POLLIN, 0};
      ::poll(&fd, 1, 100);
    }
  }
  void done(std::string name, std::string said) {
    const auto now = steady_clock::now();
    steps_.push_back(
        {std::move(name), std::move(said), std::chrono::duration_cast<milliseconds>(now - began_)});
    began_ = now;
  }
  time_point began_{};
  std::vector<step> steps_;
};

/// The settings of the tunnel; a target on the command line ranks above `tunnel`.
result<tunnel::tunnel_settings> settings_of(const tunnel_args& a) {
  auto s = a.flags->load();
  if (!s) return fail(s.error());
  if (!a.to.empty()) s->set("tunnel", a.to, "the command line");
  if (s->text("tunnel").empty())
    return fail(ec::bad_config, "which tunnel? name it: ssh://USER@HOST[:PORT], or --tunnel");
  return tunnel::tunnel_settings_from(*s);
}

int keygen(const tunnel_args& a) {
  auto s = a.flags->load();
  if (!s) return report(s.error(), a.as_json);
  if (s->text("tunnel").empty()) s->set("tunnel", "ssh://any@any", "no tunnel");
  const auto t = tunnel::tunnel_settings_from(*s);
  if (!t) return report(t.error(), a.as_json);
  auto name = s->text("runner_name");
  const auto key =
      net::write_new_key(t->key_file, name.empty() ? "ntrace-runner" : "ntrace-" + name);
  if (!key) return report(key.error(), a.as_json);
  const auto line = net::authorized_line(*key, t->target, t->reverse);
  if (a.as_json)
    std::cout << json{{"file", t->key_file},
                      {"key", net::key_text(*key)},
                      {"fingerprint", net::fingerprint(*key)},
                      {"authorized_keys", line}}
                     .dump()
              << "\n";
  else
    std::cout << "wrote " << t->key_file << " and " << t->key_file << ".pub ("
              << net::fingerprint(*key) << ")\n\nOn the dispatcher's machine, as root:\n"
              << "  ntrace provision dispatcher-user --key \"" << net::key_text(*key)
              << "\"\nor this line in the user's authorized_keys:\n  " << line << "\n";
  return 0;
}

int trust(const tunnel_args& a) {
  const auto t = settings_of(a);
  if (!t) return report(t.error(), a.as_json);
  net::ssh_session_options options;
  options.to = t->to;
  options.known_hosts_file = t->known_hosts_file;
  options.target = t->target;
  // No key is pinned here, so the refusal has the server's key.
  const auto seen = trial{}.run(t->to.at, std::move(options), false);
  std::string blob;
  if (!seen)
    for (const auto& [name, value] : seen.error().facts)
      if (name == "key")
        blob = from_base64(std::string_view{value}.substr(value.find(' ') + 1)).value_or("");
  const auto key = net::parse_key_blob(blob);
  if (!key)
    return report(seen ? error{ec::defect, "no host key came", {}} : seen.error(), a.as_json);
  const auto pinned = net::known_hosts::load(t->known_hosts_file);
  if (!pinned) return report(pinned.error(), a.as_json);
  const auto found = pinned->check(t->to.at, *key);
  const auto print = net::fingerprint(*key);
  if (found.verdict == net::host_key_verdict::changed ||
      found.verdict == net::host_key_verdict::revoked)
    return report(
        {ec::host_key_changed,
         fmt::format("{}:{}{}", t->known_hosts_file, found.line,
                     found.verdict == net::host_key_verdict::revoked
                         ? " revokes the key that the server shows, " + print
                         : " pins " + net::fingerprint(found.pinned) + ", the server shows " +
                               print + "; remove that line first, if the server did get a new key"),
         {}},
        a.as_json);
  if (found.verdict == net::host_key_verdict::unknown && !a.accept && a.fingerprint != print)
    return report({ec::host_key_unknown,
                   a.fingerprint.empty()
                       ? fmt::format("{} shows {} ({}); compare it on the server (`ssh-keygen -lf "
                                     "/etc/ssh/ssh_host_ed25519_key.pub`), then `ntrace tunnel "
                                     "trust {} --fingerprint {}`",
                                     t->to.at.text(), print, key->type, t->to.text(), print)
                       : fmt::format("{} shows {} and not {}: nothing was pinned", t->to.at.text(),
                                     print, a.fingerprint),
                   {{"fingerprint", print}}},
                  a.as_json);
  if (auto done = net::trust_host_key(t->known_hosts_file, t->to.at, *key); !done)
    return report(done.error(), a.as_json);
  if (a.as_json)
    std::cout << json{{"server", t->to.at.text()},
                      {"fingerprint", print},
                      {"file", t->known_hosts_file}}
                     .dump()
              << "\n";
  else
    std::cout << t->known_hosts_file << " pins " << print << " for " << t->to.at.text() << "\n";
  return 0;
}

int test(const tunnel_args& a) {
  const auto t = settings_of(a);
  if (!t) return report(t.error(), a.as_json);
  auto options = tunnel::session_options(*t);
  if (!options) return report(options.error(), a.as_json);
  options->reverse.clear();
  trial dial;
  const auto done = dial.run(t->to.at, std::move(*options), true);
  json steps = json::array();
  std::vector<std::vector<std::string>> rows{{"STEP", "MS", "SAID"}};
  for (const auto& s : dial.steps()) {
    steps.push_back({{"step", s.name}, {"ms", s.took.count()}, {"said", s.said}});
    rows.push_back({s.name, std::to_string(s.took.count()), s.said});
  }
  if (a.as_json && done) {
    std::cout << json{{"ok", true}, {"steps", steps}}.dump() << "\n";
    return 0;
  }
  if (!a.as_json && rows.size() > 1) std::cout << for_terminal(table(rows));
  return done ? 0 : report(done.error(), a.as_json);
}

/// Runs a tunnel and nothing else, until a signal ends it.
int run(const tunnel_args& a) {
  auto s = a.flags->load();
  if (!s) return report(s.error(), a.as_json);
  const auto t = settings_of(a);
  if (!t) return report(t.error(), a.as_json);
  log::set_level(s->text("log_level"));
  block_signals();
  tunnel::tunnel_engine engine{*t, random_seed()};
  while (wait_signal(milliseconds{60'000}) == 0) {
  }
  return 0;
}

int ask(const tunnel_args& a, const char* what) {
  return a.server.print(a.server.call("tunnel", json::array({what})), [](const json& s) {
    const auto number = [&](const char* key) { return std::to_string(s.value(key, 0)); };
    char round_trip[32];
    std::snprintf(round_trip, sizeof round_trip, "%.2f ms", s.value("round_trip_ms", 0.0));
    std::vector<std::vector<std::string>> rows{
        {"TUNNEL", s.value("to", "")},
        {"state", fmt::format("{} for {} s: {}", s.value("state", ""),
                              s.value("since_ms", std::int64_t{0}) / 1000, s.value("why", ""))},
        {"server", s.value("server", "-")},
        {"listens", s.value("listening", false)
                        ? s.value("listen", "") + ", leads to " + s.value("target", "")
                        : s.value("listen_problem", "no")},
        {"round trip", round_trip},
        {"connections", fmt::format("{}, {} held, {} bytes buffered", number("connections"),
                                    number("held"), number("buffered_bytes"))},
        {"sessions", fmt::format("{} came up, {} lost, {} dials", number("ups"), number("lost"),
                                 number("dials"))}};
    if (!s.value("last_failure", "").empty())
      rows.push_back({"last failure", s.value("last_failure", "")});
    for (const auto& r : s.value("reverse", json::array()))
      rows.push_back({"reverse", fmt::format("{} -> {}: {}", r.value("listen", ""),
                                             r.value("target", ""), r.value("state", ""))});
    std::cout << for_terminal(table(rows));
  });
}

}  // namespace

void add_tunnel(cli::app app, outcome& out) {
  const auto group = app.add_subcommand("tunnel", "A runner's SSH tunnel: set up, try, look at");
  group.require_subcommand(1);
  const auto add = [&](const char* name, const char* help, bool with_target,
                       int (*run)(const tunnel_args&)) {
    const auto sub = group.add_subcommand(name, help);
    auto a = std::make_shared<tunnel_args>();
    a->flags = std::make_shared<setting_flags>(
        sub, std::vector<setting_key>{"data", "tunnel", "tunnel_listen", "tunnel_key_file",
                                      "tunnel_known_hosts_file", "runner_name"});
    sub.add_flag("--json", a->as_json, "print JSON");
    if (with_target) sub.add_option("TO", a->to, "ssh://USER@HOST[:PORT]; else --tunnel");
    sub.callback([&out, a, run] { out.run = [a, run] { return run(*a); }; });
    return std::pair{sub, a};
  };
  add("keygen", "Makes the runner's ed25519 key and prints the line for the dispatcher's side",
      false, &keygen);
  const auto [pin, pin_args] = add("trust", "Pins the server's host key", true, &trust);
  pin.add_option("--fingerprint", pin_args->fingerprint, "pin only the key with this SHA256:…")
      .type_name("HASH");
  pin.add_flag("--accept", pin_args->accept, "pin the key that the server shows now");
  add("test", "Dials once, step by step, as a runner would", true, &test);
  add("run", "Holds a tunnel and nothing else, in the foreground", true, &run);
  const auto add_question = [&](const char* name, const char* help) {
    const auto sub = group.add_subcommand(name, help);
    auto a = std::make_shared<tunnel_args>();
    a->server.add(sub, "runner");
    sub.callback([&out, a, name] { out.run = [a, name] { return ask(*a, name); }; });
  };
  add_question("status", "The tunnel of a running runner");
  add_question("retry", "Makes a parked or waiting tunnel dial now");
}

}  // namespace ntrace::tools
