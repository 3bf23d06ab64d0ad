#include "actors/tunnel/tunnel_settings.hpp"

#include "config/ascii.hpp"
#include "config/file.hpp"

namespace ntrace::tunnel {
namespace {

bool is_loopback(const host_port& at) {
  return at.host.starts_with("127.") || at.host == "::1" || at.host == "localhost";
}

std::string or_in_data(const settings& s, text_setting key, const char* name) {
  return s.text(key).empty() ? s.text("data") + "/ssh/" + name : s.text(key);
}

/// 0 stands for what is measured.
std::optional<milliseconds> unless_measured(milliseconds value) {
  return value.count() == 0 ? std::nullopt : std::optional{value};
}

}  // namespace

result<net::reverse_forward> parse_reverse(std::string_view text) {
  const auto arrow = text.find("->");
  const auto wrong = [&] {
    return fail(ec::bad_config, "setting tunnel_reverse has \"" + std::string{text} +
                                    "\": use HOST:PORT->HOST:PORT, with a fixed port on the server "
                                    "and a loopback address here");
  };
  if (arrow == text.npos) return wrong();
  const auto from = parse_host_port(trimmed(text.substr(0, arrow), " "));
  const auto to = parse_host_port(trimmed(text.substr(arrow + 2), " "));
  if (!from || !to || from->port == 0 || to->port == 0 || !is_loopback(*to)) return wrong();
  return net::reverse_forward{*from, *to};
}

result<net::ssh_session_options> session_options(const tunnel_settings& from) {
  net::ssh_session_options out;
  auto key = net::read_private_key(from.key_file);
  if (!key) return fail(key.error());
  if (key->is_encrypted) {
    if (from.passphrase_file.empty())
      return fail(ec::bad_key, "the key " + from.key_file +
                                   " is encrypted: give tunnel_passphrase_file, or use another");
    const auto text = read_secret(from.passphrase_file);
    if (!text) return fail(ec::bad_key, text.error().message);
    out.passphrase = text->substr(0, text->find_last_not_of("\r\n") + 1);
  }
  auto pinned = net::known_hosts::load(from.known_hosts_file);
  if (!pinned) return fail(pinned.error());
  out.to = from.to;
  out.key = std::move(*key);
  out.pinned = std::move(*pinned);
  out.known_hosts_file = from.known_hosts_file;
  out.accept_first = from.accept_first;
  out.target = from.target;
  out.reverse = from.reverse;
  return out;
}

result<tunnel_settings> tunnel_settings_from(const settings& s) {
  tunnel_settings out;
  const auto to = net::parse_ssh_target(s.text("tunnel"));
  if (!to) return fail(ec::bad_config, "setting tunnel: " + to.error().message);
  const auto listen = parse_host_port(s.text("tunnel_listen"));
  if (!listen || listen->port == 0)
    return fail(ec::bad_config, "setting tunnel_listen is \"" + s.text("tunnel_listen") +
                                    "\": use HOST:PORT with a fixed port");
  if (!is_loopback(*listen) && !s.flag("tunnel_listen_public"))
    return fail(ec::bad_config, "tunnel_listen " + listen->text() +
                                    " can be reached from outside; say tunnel_listen_public = true "
                                    "if that is meant");
  const auto target = parse_host_port(s.text("dispatcher"));
  if (!target) return fail(target.error());
  for (const auto& text : s.list("tunnel_reverse")) {
    const auto one = parse_reverse(text);
    if (!one) return fail(one.error());
    out.reverse.push_back(*one);
  }
  const auto policy = s.text("tunnel_host_key_policy");
  if (policy != "pinned" && policy != "accept_first")
    return fail(ec::bad_config,
                "setting tunnel_host_key_policy is \"" + policy + "\": use pinned or accept_first");
  out.to = *to;
  out.listen = *listen;
  out.target = *target;
  out.key_file = or_in_data(s, "tunnel_key_file", "key");
  out.passphrase_file = s.text("tunnel_passphrase_file");
  out.known_hosts_file = or_in_data(s, "tunnel_known_hosts_file", "known_hosts");
  out.accept_first = policy == "accept_first";
  out.machine.probe_interval = unless_measured(s.duration("tunnel_probe_interval_ms"));
  out.machine.probe_idle_interval = s.duration("tunnel_probe_idle_interval_ms");
  out.machine.probe_deadline = unless_measured(s.duration("tunnel_probe_deadline_ms"));
  out.machine.suspect_grace = s.duration("tunnel_suspect_grace_ms");
  out.machine.backoff_max = s.duration("tunnel_backoff_max_ms");
  out.machine.standby = s.flag("tunnel_standby");
  out.forward.connections_max = static_cast<std::size_t>(s.number("tunnel_connections_max"));
  out.forward.held_connections_max = static_cast<std::size_t>(s.number("tunnel_held_max"));
  out.forward.held_max = s.duration("tunnel_held_ms");
  return out;
}

}  // namespace ntrace::tunnel
