// config: the settings in force and where each comes from.
#include <iostream>

#include "tools/command.hpp"

namespace ntrace::tools {

void add_config(cli::app app, outcome& out) {
  const auto sub = app.add_subcommand("config", "The settings in force, and where each comes from");
  auto flags = std::make_shared<setting_flags>(sub);
  auto as_json = std::make_shared<bool>(false);
  sub.add_flag("--json", *as_json, "print JSON");
  sub.callback([&out, flags, as_json] {
    out.run = [flags, as_json] {
      const auto s = flags->load();
      if (!s) return report(s.error(), *as_json);
      json all = json::object();
      std::vector<std::vector<std::string>> rows{{"SETTING", "VALUE", "FROM", "MEANING"}};
      for (std::size_t i = 0; i < setting_table.size(); ++i) {
        const auto& spec = setting_table[i];
        const auto& v = s->all()[i];
        all[std::string{spec.key}] = {{"value", v.text}, {"from", v.origin}};
        rows.push_back({std::string{spec.key}, v.text.empty() ? "-" : v.text, v.origin,
                        std::string{spec.help}});
      }
      std::cout << (*as_json ? all.dump() + "\n" : table(rows));
      return 0;
    };
  });
}

}  // namespace ntrace::tools
