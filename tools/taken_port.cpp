#include "tools/taken_port.hpp"

#include <fmt/core.h>
#include <map>

#include "net/socket.hpp"

namespace ntrace::tools {

result<void> check_ports(const settings& s, role_set roles) {
  std::vector<text_setting> keys{"shell", "shell_operator"};
  if (roles.dispatcher)
    keys.insert(keys.end(), {text_setting{"dispatcher"}, text_setting{"webhook"}});
  if (roles.runner) keys.push_back("runner");
  if (roles.runner && !s.text("tunnel").empty()) keys.push_back("tunnel_listen");
  std::map<std::string, std::string> seen;  // Address to key.
  for (const auto& setting : keys) {
    const auto& [text, origin] = s.value(setting);
    if (text.empty()) continue;
    const std::string key{setting.spec().key};
    const auto wrong = [&](const std::string& why) {
      return fail(ec::bad_config, fmt::format("setting {} is {} ({}): {}. Stop that process, or "
                                              "choose another port with {} HOST:PORT",
                                              key, text, origin, why, setting_flag(key)));
    };
    const auto at = parse_host_port(text);
    if (!at) return fail(at.error());
    if (at->port == 0) continue;
    if (const auto [other, is_new] = seen.try_emplace(at->text(), key); !is_new)
      return wrong("so is the setting " + other->second);
    if (const auto free = net::listen_tcp(*at, 1); !free) return wrong(free.error().message);
  }
  return {};
}

}  // namespace ntrace::tools
