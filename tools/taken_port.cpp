#include "tools/taken_port.hpp"

#include <fmt/core.h>
#include <map>

#include "net/socket.hpp"

namespace ntrace::tools {

result<void> check_ports(const settings& s, role_set roles) {
  // Named first: clang 14 crashes over settings that are converted inside of a call.
  constexpr text_setting shell{"shell"}, shell_operator{"shell_operator"};
  constexpr text_setting dispatcher{"dispatcher"}, webhook{"webhook"};
  constexpr text_setting runner{"runner"}, tunnel{"tunnel"}, tunnel_listen{"tunnel_listen"};
  std::vector<text_setting> keys{shell, shell_operator};
  if (roles.dispatcher) keys.insert(keys.end(), {dispatcher, webhook});
  if (roles.runner) keys.push_back(runner);
  if (roles.runner && !s.text(tunnel).empty()) keys.push_back(tunnel_listen);
  std::map<std::string, std::string> seen;  // Address to key.
  for (const auto& setting : keys) {
    const auto& set = s.value(setting);
    if (set.text.empty()) continue;
    const std::string key{setting.spec().key};
    const auto wrong = [&](const std::string& why) {
      return fail(ec::bad_config, fmt::format("setting {} is {} ({}): {}. Stop that process, or "
                                              "choose another port with {} HOST:PORT",
                                              key, set.text, set.origin, why, setting_flag(key)));
    };
    const auto at = parse_host_port(set.text);
    if (!at) return fail(at.error());
    if (at->port == 0) continue;
    if (const auto [other, is_new] = seen.try_emplace(at->text(), key); !is_new)
      return wrong("so is the setting " + other->second);
    if (const auto free = net::listen_tcp(*at, 1); !free) return wrong(free.error().message);
  }
  return {};
}

}  // namespace ntrace::tools
