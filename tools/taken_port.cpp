#include "tools/taken_port.hpp"

#include <map>

#include "net/socket.hpp"

namespace ntrace::tools {

result<void> check_ports(const settings& s, role_set roles) {
  std::vector<std::string> keys{"shell", "shell_operator"};
  if (roles.dispatcher) keys.insert(keys.end(), {"dispatcher", "webhook"});
  if (roles.runner) keys.emplace_back("runner");
  if (roles.runner && !s.text("tunnel").empty()) keys.emplace_back("tunnel_listen");
  std::map<std::string, std::string> seen;  // Address to key.
  for (const auto& key : keys) {
    if (s.text(key).empty()) continue;
    const auto wrong = [&](const std::string& why) {
      return fail(ec::bad_config, "setting " + key + " is " + s.text(key) + " (" +
                                      s.value(key).origin + "): " + why +
                                      ". Stop that process, or choose another port with " +
                                      setting_flag(key) + " HOST:PORT");
    };
    const auto at = parse_host_port(s.text(key));
    if (!at) return fail(at.error());
    if (at->port == 0) continue;
    if (const auto [other, is_new] = seen.try_emplace(at->text(), key); !is_new)
      return wrong("so is the setting " + other->second);
    if (const auto free = net::listen_tcp(*at, 1); !free) return wrong(free.error().message);
  }
  return {};
}

}  // namespace ntrace::tools
