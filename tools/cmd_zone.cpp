// zone create|list|snapshot|rollback|exec|shell|destroy|delete-snapshot: Linux zones on this
// machine, without any server; a zone that a running ntrace owns is refused.
#include <csignal>
#include <cstdlib>
#include <iostream>

#include "actors/zone/linux/zone_store.hpp"
#include "actors/zone/zone_linux.hpp"
#include "config/ids.hpp"
#include "tools/attempt_settings.hpp"
#include "tools/command.hpp"
#include "tools/terminal_relay.hpp"

namespace ntrace::tools {
namespace {

constexpr milliseconds shell_deadline{24 * 3'600'000};  // for a shell that was left alone

struct zone_args {
  std::shared_ptr<setting_flags> flags;
  std::string uuid, name = "clean";
  std::vector<std::string> command;
  bool as_json = false, network = false, as_root = false, provision = false;
};

using helper_ptr = std::shared_ptr<zone::privileged_helper>;

/// Makes a helper, and prints the result of `does`.
int with_helper(const zone_args& a, const std::function<result<json>(const helper_ptr&)>& does) {
  const auto s = a.flags->load();
  if (!s) return report(s.error(), a.as_json);
  const auto helper = zone::privileged_helper::start(helper_options_from(*s));
  if (!helper) return report(helper.error(), a.as_json);
  const auto done = does(*helper);
  if (!done) return report(done.error(), a.as_json);
  if (a.as_json) std::cout << done->dump() << "\n";
  return 0;
}

int create(const zone_args& a) {
  return with_helper(a, [&a](const helper_ptr& helper) -> result<json> {
    auto uuid = a.uuid;
    if (uuid.empty()) {
      random_source random{random_seed()};
      uuid = make_uuid(random);
    }
    const auto made = helper->call({{"op", "create"}, {"uuid", uuid}, {"provision", a.provision}});
    if (!made) return fail(made.error());
    if (!a.as_json) std::cout << uuid << "\n";
    return made->value;
  });
}

int snapshot(const zone_args& a) {
  return with_helper(a, [&a](const helper_ptr& helper) -> result<json> {
    if (auto done = zone::zone_linux{helper, a.uuid}.snapshot(a.name); !done)
      return fail(done.error());
    return json{{"snapshot", a.name}};
  });
}

int rollback(const zone_args& a) {
  return with_helper(a, [&a](const helper_ptr& helper) -> result<json> {
    const auto newer = zone::zone_linux{helper, a.uuid}.rollback(a.name);
    if (!newer) return fail(newer.error());
    return json{{"snapshot", a.name}, {"deleted", *newer}};
  });
}

int delete_snapshot(const zone_args& a) {
  return with_helper(a, [&a](const helper_ptr& helper) -> result<json> {
    if (auto done = zone::zone_linux{helper, a.uuid}.delete_snapshot(a.name); !done)
      return fail(done.error());
    return json{{"deleted", a.name}};
  });
}

int destroy(const zone_args& a) {
  return with_helper(a, [&a](const helper_ptr& helper) -> result<json> {
    if (auto done = zone::zone_linux{helper, a.uuid}.destroy(); !done) return fail(done.error());
    return json{{"destroyed", a.uuid}};
  });
}

int list(const zone_args& a) {
  const auto s = a.flags->load();
  if (!s) return report(s.error(), a.as_json);
  json all = json::array();
  std::vector<std::vector<std::string>> rows{{"ZONE", "GENERATION", "CURRENT", "SNAPSHOTS"}};
  for (const auto& z : zone::list_zones(s->text("data"))) {
    all.push_back({{"uuid", z.uuid},
                   {"generation", z.generation},
                   {"snapshot", z.snapshot},
                   {"snapshots", z.snapshots}});
    std::string names;
    for (const auto& name : z.snapshots) names += (names.empty() ? "" : ", ") + name;
    rows.push_back({z.uuid, std::to_string(z.generation), z.snapshot, names});
  }
  std::cout << (a.as_json ? all.dump() + "\n" : table(rows));
  return 0;
}

/// A zone that is up with the files of its last use, and what a program needs in it.
struct opened_zone {
  std::unique_ptr<zone::zone_linux> zone;
  std::unique_ptr<net::egress_proxy> proxy;  ///< Ends before the zone.
  zone::exec_spec spec;
};

result<opened_zone> open_zone(const zone_args& a) {
  const auto s = a.flags->load();
  if (!s) return fail(s.error());
  auto helper = zone::privileged_helper::start(helper_options_from(*s));
  if (!helper) return fail(helper.error());
  auto options = attempt_options_from(*s);
  if (!options) return fail(options.error());
  opened_zone out;
  out.zone = std::make_unique<zone::zone_linux>(*helper, a.uuid);
  zone::boot_spec boot;
  boot.limits = options->limits;
  boot.fresh = false;
  boot.with_network = a.network;
  boot.deadline = options->boot;
  if (auto up = out.zone->boot(boot); !up) return fail(up.error());
  out.spec.argv = a.command;
  out.spec.as_root = a.as_root;
  out.spec.deadline = options->run;
  out.spec.env = {"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8",
                  "NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt",
                  a.as_root ? "HOME=/root" : "HOME=/home/job",
                  a.as_root ? "USER=root" : "USER=job"};
  if (auto listener = out.zone->take_listener()) {
    out.proxy = std::make_unique<net::egress_proxy>(
        std::move(listener), options->egress, [](const net::egress_report& e) {
          if (!e.reason.empty()) std::cerr << "ntrace: " << for_terminal(e.reason) << "\n";
        });
    out.spec.env.insert(out.spec.env.end(),
                        {"https_proxy=http://127.0.0.1:3128", "http_proxy=http://127.0.0.1:3128"});
  }
  return out;
}

int close_zone(opened_zone& z, const result<zone::exec_end>& ended) {
  z.proxy.reset();
  if (!ended) return report(ended.error());
  if (auto down = z.zone->end(); !down) return report(down.error());
  if (ended->timed_out) return report({ec::timed_out, "the command reached its deadline", {}});
  return ended->signal != 0 ? 128 + ended->signal : ended->exit_code;
}

/// Runs a command in the zone. Its files stay there until the next rollback.
int exec(const zone_args& a) {
  auto z = open_zone(a);
  if (!z) return report(z.error());
  const auto sink = [](std::string_view stream, std::string_view data) {
    // A closed pipe ends the reader, not the job; the exit code tells.
    (stream == "stdout" ? std::cout : std::cerr) << data << std::flush;
  };
  return close_zone(*z, z->zone->exec(z->spec, {UINT64_MAX / 4, UINT64_MAX / 4}, sink, nullptr, 0));
}

/// Does the same for a person at a terminal.
int shell(const zone_args& a) {
  auto relay = terminal_relay::open();
  if (!relay) return report(relay.error());
  auto z = open_zone(a);
  if (!z) {
    relay->reset();
    return report(z.error());
  }
  if (z->spec.argv.empty()) z->spec.argv = {"bash", "--norc", "-i"};
  z->spec.deadline = shell_deadline;
  const char* term = std::getenv("TERM");
  z->spec.env.push_back(std::string{"TERM="} + (term != nullptr ? term : "dumb"));
  z->spec.env.push_back(a.as_root ? "PS1=zone# " : "PS1=zone$ ");
  if (a.as_root) z->spec.cwd = "/root";
  const auto ended = z->zone->attend(z->spec, (*relay)->take_program_side());
  relay->reset();
  const int code = close_zone(*z, ended);
  std::cerr << "ntrace: your work is kept for the next `zone shell` or `zone exec`. `ntrace zone "
               "snapshot "
            << a.uuid << " NAME` makes attempts start from it, `ntrace zone rollback " << a.uuid
            << "` drops it.\n";
  return code;
}

void add_use(cli::app sub, zone_args& a) {
  sub.add_flag("--network", a.network, "reach what network_allow lists, through the proxy");
  sub.add_flag("--root", a.as_root, "as the zone's root, which has no capabilities either");
}

}  // namespace

void add_zone(cli::app app, outcome& out) {
  const auto zone = app.add_subcommand("zone", "Linux zones on this machine");
  zone.require_subcommand(1);
  const auto add = [&](const char* name, const char* help, bool with_uuid,
                       const std::function<int(const zone_args&)>& run) {
    const auto sub = zone.add_subcommand(name, help);
    auto a = std::make_shared<zone_args>();
    a->flags = std::make_shared<setting_flags>(
        sub, std::vector<setting_key>{"data", "zone_backend", "zone_allow_degraded",
                                      "network_allow", "zone_memory_bytes"});
    sub.add_flag("--json", a->as_json, "print JSON");
    if (with_uuid) sub.add_option("UUID", a->uuid, "the zone's uuid").required();
    sub.callback([&out, a, run] { out.run = [a, run] { return run(*a); }; });
    return std::pair{sub, a};
  };
  {
    auto [sub, a] =
        add("create", "Make a zone with a snapshot clean; prints its uuid", false, create);
    sub.add_option("--uuid", a->uuid, "the uuid it gets").type_name("UUID");
    sub.add_flag("--provision", a->provision,
                 "without clean: prepare it by `zone shell`, then `zone snapshot` makes clean");
  }
  add("list", "The zones there are", false, list);
  {
    auto [sub, a] = add("snapshot", "Keep the zone's files as a snapshot", true, snapshot);
    sub.add_option("NAME", a->name, "the snapshot's name").capture_default_str();
  }
  {
    auto [sub, a] =
        add("rollback", "Go back to a snapshot; newer ones are deleted", true, rollback);
    sub.add_option("NAME", a->name, "the snapshot's name").capture_default_str();
  }
  {
    auto [sub, a] = add("delete-snapshot", "Delete a snapshot that is the base of no other", true,
                        delete_snapshot);
    sub.add_option("NAME", a->name, "the snapshot's name").required();
  }
  {
    auto [sub, a] = add("exec", "Run a command in the zone as the job's user", true, exec);
    add_use(sub, *a);
    sub.add_option("COMMAND", a->command, "after --, so that its options are its own").required();
  }
  {
    auto [sub, a] = add("shell", "A shell in the zone, to prepare it for a snapshot", true, shell);
    add_use(sub, *a);
    sub.add_option("COMMAND", a->command, "instead of bash, after --");
  }
  add("destroy", "Delete the zone", true, destroy);
}

}  // namespace ntrace::tools
