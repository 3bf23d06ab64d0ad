// zone create|list|snapshot|rollback|exec|destroy|delete-snapshot: Linux zones on this machine,
// without any server; a zone that a running ntrace owns is refused.
#include <csignal>
#include <iostream>

#include "actors/zone/linux/zone_store.hpp"
#include "actors/zone/zone_linux.hpp"
#include "config/ids.hpp"
#include "tools/command.hpp"
#include "tools/wire.hpp"

namespace ntrace::tools {
namespace {

struct zone_args {
  std::shared_ptr<setting_flags> flags;
  std::string uuid, name = "clean";
  std::vector<std::string> command;
  bool as_json = false, network = false;
};

int simple(const zone_args& a, const char* op) {
  const auto s = a.flags->load();
  if (!s) return report(s.error(), a.as_json);
  auto helper = zone::privileged_helper::start(helper_options_from(*s));
  if (!helper) return report(helper.error(), a.as_json);
  auto uuid = a.uuid;
  if (uuid.empty()) {
    random_source random{random_seed()};
    uuid = make_uuid(random);
  }
  const auto done = (*helper)->call({{"op", op}, {"uuid", uuid}, {"name", a.name}});
  if (!done) return report(done.error(), a.as_json);
  if (a.as_json)
    std::cout << done->value.dump() << "\n";
  else if (std::string_view{op} == "create")
    std::cout << uuid << "\n";
  return 0;
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

/// Runs a command in the zone; what it writes stays there until the next rollback.
int exec(const zone_args& a) {
  const auto s = a.flags->load();
  if (!s) return report(s.error());
  auto helper = zone::privileged_helper::start(helper_options_from(*s));
  if (!helper) return report(helper.error());
  auto options = attempt_options_from(*s);
  if (!options) return report(options.error());
  zone::zone_linux z{*helper, a.uuid};
  zone::boot_spec boot;
  boot.limits = options->limits;
  boot.fresh = false;
  boot.with_network = a.network;
  boot.deadline = options->boot;
  if (auto up = z.boot(boot); !up) return report(up.error());
  std::unique_ptr<net::egress_proxy> proxy;
  std::vector<std::string> env{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/home/job", "USER=job",
                               "LANG=C.UTF-8",
                               "NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt"};
  if (auto listener = z.take_listener()) {
    proxy = std::make_unique<net::egress_proxy>(
        std::move(listener), options->egress, [](const net::egress_report& e) {
          if (!e.reason.empty()) std::cerr << "ntrace: " << for_terminal(e.reason) << "\n";
        });
    env.insert(env.end(),
               {"https_proxy=http://127.0.0.1:3128", "http_proxy=http://127.0.0.1:3128"});
  }
  const auto sink = [](std::string_view stream, std::string_view data) {
    // A closed pipe ends the reader, not the job; nothing else can be done about it here.
    [[maybe_unused]] const bool written = write_all(stream == "stdout" ? 1 : 2, data);
  };
  const auto ended = z.exec({a.command, env, "/job", options->run},
                            {UINT64_MAX / 4, UINT64_MAX / 4}, sink, nullptr, 0);
  proxy.reset();
  if (!ended) return report(ended.error());
  if (auto down = z.end(); !down) return report(down.error());
  if (ended->timed_out) return report({ec::timed_out, "the command ran into run_ms", {}});
  return ended->signal != 0 ? 128 + ended->signal : ended->exit_code;
}

}  // namespace

void add_zone(CLI::App& app, outcome& out) {
  auto* zone = app.add_subcommand("zone", "Linux zones on this machine");
  zone->require_subcommand(1);
  const auto add = [&](const char* name, const char* help, bool with_uuid,
                       const std::function<int(const zone_args&)>& run) {
    auto* sub = zone->add_subcommand(name, help);
    auto a = std::make_shared<zone_args>();
    a->flags = std::make_shared<setting_flags>(sub);
    sub->add_flag("--json", a->as_json, "print JSON");
    if (with_uuid) sub->add_option("UUID", a->uuid, "the zone's uuid")->required();
    sub->callback([&out, a, run] { out.run = [a, run] { return run(*a); }; });
    return std::pair{sub, a};
  };
  {
    auto [sub, a] = add("create", "Make a zone with a snapshot clean; prints its uuid", false,
                        [](const zone_args& z) { return simple(z, "create"); });
    sub->add_option("--uuid", a->uuid, "the uuid it gets");
  }
  add("list", "The zones there are", false, list);
  {
    auto [sub, a] = add("snapshot", "Keep the zone's files as a snapshot", true,
                        [](const zone_args& z) { return simple(z, "snapshot"); });
    sub->add_option("NAME", a->name)->required();
  }
  {
    auto [sub, a] = add("rollback", "Go back to a snapshot; newer ones are deleted", true,
                        [](const zone_args& z) { return simple(z, "rollback"); });
    sub->add_option("NAME", a->name)->capture_default_str();
  }
  {
    auto [sub, a] = add("delete-snapshot", "Delete a snapshot that nothing is stacked on", true,
                        [](const zone_args& z) { return simple(z, "delete_snapshot"); });
    sub->add_option("NAME", a->name)->required();
  }
  {
    auto [sub, a] = add("exec", "Run a command in the zone as the job's user", true, exec);
    sub->add_flag("--network", a->network, "reach what network_allow lists, through the proxy");
    sub->add_option("COMMAND", a->command, "after --, so that its options are its own")->required();
  }
  add("destroy", "Delete the zone", true, [](const zone_args& z) { return simple(z, "destroy"); });
}

}  // namespace ntrace::tools
