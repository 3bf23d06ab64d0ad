// up, dispatcher, runner: read settings and run the tree of the role.
#include "tools/command.hpp"
#include "tools/serve.hpp"

namespace ntrace::tools {

void add_serve(cli::app app, outcome& out) {
  const auto add = [&](const char* name, const char* help, role_set roles) {
    const auto sub = app.add_subcommand(name, help);
    const std::vector<setting_key> common{"data",
                                          "dispatcher",
                                          "runner",
                                          "workers",
                                          "runner_name",
                                          "tunnel",
                                          "webhook",
                                          "shell",
                                          "source_template",
                                          "npm_registry",
                                          "log_level",
                                          "zone_backend",
                                          "run_ms",
                                          "zone_allow_degraded"};
    auto flags = std::make_shared<setting_flags>(sub, common);
    auto as_json = std::make_shared<bool>(false);
    sub.add_flag("--json", *as_json, "print the ready line as JSON");
    sub.callback([&out, flags, as_json, roles] {
      out.run = [flags, as_json, roles] {
        const auto s = flags->load();
        return s ? serve(*s, roles, *as_json) : report(s.error(), *as_json);
      };
    });
  };
  add("up", "Dispatcher, one runner and its worker zones on this machine", {true, true});
  add("dispatcher", "The dispatcher alone: journal and RPC", {true, false});
  add("runner", "A runner alone: worker zones, work from --dispatcher", {false, true});
}

}  // namespace ntrace::tools
