#include "config/settings.hpp"

#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <sstream>

#include "config/ascii.hpp"
#include "config/file.hpp"
#include "config/limits.hpp"

namespace ntrace {
namespace {

using enum setting_type;

constexpr std::size_t file_bytes_max = 1u << 20;
constexpr std::ptrdiff_t file_dots_max = 4096;  // Some 300 bytes of stack each.

constexpr std::array table{
    setting_spec{"data", text, "", "folder of the journal and the zones"},
    setting_spec{"dispatcher", text, "127.0.0.1:9181", "where the dispatcher serves RPC"},
    setting_spec{"webhook", text, "", "where POST /github is served, HOST:PORT; empty: nowhere"},
    setting_spec{"webhook_secret_file", text, "",
                 "file with the secret that the forge signs its requests with"},
    setting_spec{"shell", text, "",
                 "where the remote shell listens for who only looks, HOST:PORT; empty: nowhere"},
    setting_spec{"shell_operator", text, "",
                 "where it listens for who also acts; needs certificates; empty: nowhere"},
    setting_spec{"shell_cert_file", text, "", "this server's certificate for the shell, PEM"},
    setting_spec{"shell_key_file", text, "", "its private key, PEM"},
    setting_spec{"shell_operator_ca_file", text, "", "the CA of operators' certificates, PEM"},
    setting_spec{"shell_viewer_ca_file", text, "",
                 "the CA of viewers' certificates, PEM; empty: `shell` listens on loopback only"},
    setting_spec{"faults", flag, "false", "an operator's shell may inject faults; for tests"},
    setting_spec{"tunnel", text, "",
                 "ssh://USER@HOST[:PORT] that leads to the dispatcher; empty: dial it directly"},
    setting_spec{"tunnel_listen", text, "127.0.0.1:9181", "the runner's own end of the tunnel"},
    setting_spec{"tunnel_key_file", text, "", "the runner's private key; DATA/ssh/key when empty"},
    setting_spec{"tunnel_passphrase_file", text, "",
                 "file with the key's passphrase, if it has one"},
    setting_spec{"tunnel_known_hosts_file", text, "",
                 "the pinned host keys; DATA/ssh/known_hosts when empty"},
    setting_spec{"tunnel_host_key_policy", text, "pinned",
                 "pinned, or accept_first: pin what the first meeting shows"},
    setting_spec{"tunnel_reverse", list, "",
                 "HOST:PORT->HOST:PORT that the SSH server listens on, and where it leads here"},
    setting_spec{"tunnel_standby", flag, "false", "keep a second SSH session ready"},
    setting_spec{"tunnel_listen_public", flag, "false",
                 "allow a tunnel_listen that is not loopback"},
    setting_spec{"tunnel_probe_interval_ms", duration_ms, "0",
                 "between probes while an answer is due; 0: from round trips", 0, 60'000},
    setting_spec{"tunnel_probe_idle_interval_ms", duration_ms, "1000", "between probes when idle",
                 50, 60'000},
    setting_spec{"tunnel_probe_deadline_ms", duration_ms, "0",
                 "silence that makes a session suspect; 0: from round trips", 0, 60'000},
    setting_spec{"tunnel_suspect_grace_ms", duration_ms, "30000",
                 "how long a silent session may still heal", 100, 600'000},
    setting_spec{"tunnel_backoff_max_ms", duration_ms, "500",
                 "longest wait between dials in the first minute", 20, 60'000},
    setting_spec{"tunnel_connections_max", count, "512", "connections through the tunnel", 1, 4096},
    setting_spec{"tunnel_held_max", count, "256", "connections that wait while there is no session",
                 0, 4096},
    setting_spec{"tunnel_held_ms", duration_ms, "60000", "how long they wait", 10, 3'600'000},
    setting_spec{"runner", text, "127.0.0.1:9182", "where the runner serves RPC"},
    setting_spec{"runner_name", text, "", "the runner's name; the host's name when empty"},
    setting_spec{"workers", count, "1", "worker zones that `up` and `runner` make", 0, 256},
    setting_spec{"log_level", text, "info", "debug, info, warn, error or off"},
    setting_spec{"source_template", text, "github:{owner}/{repo}@{sha}",
                 "where a push's source comes from: a SPEC with {owner} {repo} {sha}"},
    setting_spec{"github_url", text, "https://codeload.github.com",
                 "where github: sources are fetched from"},
    setting_spec{"npm_registry", text, "https://registry.npmjs.org/", "the npm registry"},
    setting_spec{"ca_file", text, "",
                 "certificate authorities for sources; the system's when empty"},
    setting_spec{"attempts", count, "5", "attempts of a run before it is quarantined", 1, 100},
    setting_spec{"offer_ms", duration_ms, "2000", "how long an offer waits for its answer", 10},
    setting_spec{"lease_ms", duration_ms, "30000", "how long a lease lasts without a heartbeat",
                 100},
    setting_spec{"consumer_silence_ms", duration_ms, "600000",
                 "how long a consumer of the old protocol may say nothing of its run", 100},
    setting_spec{"retain_days", count, "90",
                 "how long the journal keeps runs that ended; 0: any time", 0, 36500},
    setting_spec{"journal_bytes", bytes, "16GiB",
                 "bound of the journal's file; near it the oldest ended runs go early", 16 << 20},
    setting_spec{"backoff_min_ms", duration_ms, "1000", "first wait before a run is retried"},
    setting_spec{"backoff_max_ms", duration_ms, "300000", "longest wait before a run is retried"},
    setting_spec{
        "outage_patience_ms", duration_ms, "86400000",
        "how long a run waits for what cannot be reached: forge, resolver, registry, mirror"},
    setting_spec{"drain_ms", duration_ms, "30000", "how long SIGTERM waits for running attempts"},
    setting_spec{"stop_ms", duration_ms, "20000",
                 "how long a stop may take before the process just ends", 100},
    setting_spec{"boot_ms", duration_ms, "5000", "deadline of a zone's boot", 10},
    setting_spec{"fetch_ms", duration_ms, "120000", "deadline of fetching a source", 10},
    setting_spec{"install_ms", duration_ms, "600000", "deadline of `npm install`", 10},
    setting_spec{"run_ms", duration_ms, "900000", "deadline of the profiled script", 10},
    setting_spec{"zone_memory_bytes", bytes, "1GiB", "memory of a zone, tmpfs included", 16 << 20},
    setting_spec{"zone_pids", count, "512", "processes and threads of a zone", 16, 32768},
    setting_spec{"zone_cpu_percent", count, "100", "CPU time of a zone; 100 is one CPU", 1, 100000},
    setting_spec{"zone_disk_bytes", bytes, "2GiB",
                 "what a run may write to its zone's disk; 0: no limit"},
    setting_spec{"zone_disk", text, "disk",
                 "where that lies: disk, and is watched; memory, besides zone_memory_bytes and "
                 "exactly bounded (needs root)"},
    setting_spec{"zone_backend", text, "linux",
                 "what makes a zone's namespaces: linux, ntrace itself; oci, runc or crun"},
    setting_spec{"zone_allow_degraded", flag, "false",
                 "run zones also on machines without limits or separate user ids"},
    setting_spec{"output_bytes", bytes, "8MiB", "output kept of each stream of a run"},
    setting_spec{"output_hard_bytes", bytes, "64MiB", "output of a run beyond which it is ended"},
    setting_spec{"outbox_bytes", bytes, "1GiB",
                 "output on a runner's disk that waits for the dispatcher", 2 << 20},
    setting_spec{"network_allow", list, "registry.npmjs.org:443",
                 "HOST[:PORT] or *.SUFFIX that the install step may reach"},
    setting_spec{"network_allow_private", list, "",
                 "entries of network_allow that may resolve to private addresses"},
    setting_spec{"network_bytes_max", bytes, "1GiB", "bytes that one attempt may transfer"},
    setting_spec{"perf_frequency", count, "999", "samples per second and CPU", 1, 20000},
};

const setting_spec* find_spec(std::string_view key) {
  const auto at =
      std::find_if(table.begin(), table.end(), [&](const setting_spec& s) { return s.key == key; });
  return at == table.end() ? nullptr : &*at;
}

std::optional<std::int64_t> parse_number(std::string_view text) {
  std::int64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return {};
  return out;
}

/// The canonical text of a value, or what would have been right.
result<std::string> check(const setting_spec& spec, const setting_value& value) {
  const auto wrong = [&](const std::string& right) {
    return fail(ec::bad_config, "setting " + std::string{spec.key} + " is \"" + value.text +
                                    "\" (" + value.origin + "): " + right);
  };
  std::optional<std::int64_t> number;
  switch (spec.type) {
    case text:
    case list:
      return value.text;
    case flag:
      if (value.text != "true" && value.text != "false") return wrong("use true or false");
      return value.text;
    case count:
    case duration_ms:
      number = parse_number(value.text);
      break;
    case bytes:
      number = parse_bytes(value.text);
      break;
  }
  if (!number)
    return wrong(spec.type == bytes         ? "use a number of bytes such as 64MiB"
                 : spec.type == duration_ms ? "use a whole number of milliseconds"
                                            : "use a whole number");
  if (*number < spec.min || *number > spec.max)
    return wrong("use a value from " + std::to_string(spec.min) + " to " +
                 std::to_string(spec.max));
  return std::to_string(*number);
}

result<std::string> toml_text(const std::string& key, const toml::node& node) {
  if (const auto* s = node.as_string()) return s->get();
  if (const auto* i = node.as_integer()) return std::to_string(i->get());
  if (const auto* b = node.as_boolean()) return std::string{b->get() ? "true" : "false"};
  if (const auto* a = node.as_array()) {
    std::string joined;
    for (const auto& item : *a) {
      const auto* s = item.as_string();
      if (!s) return fail(ec::bad_config, "setting " + key + ": a list holds texts only");
      joined += (joined.empty() ? "" : ",") + s->get();
    }
    return joined;
  }
  return fail(ec::bad_config, "setting " + key + ": use a text, a number, true/false or a list");
}

using value_map = std::map<std::string, setting_value, std::less<>>;

result<void> read_toml(const std::string& file, value_map& values) {
  const auto text = read_file(file, file_bytes_max);
  if (!text) return fail(ec::bad_config, "the configuration: " + text.error().message);
  // Each dot of a key is a table in a table, and to take those apart recurses.
  if (std::count(text->begin(), text->end(), '.') > file_dots_max)
    return fail(ec::bad_config, file + ": more than " + std::to_string(file_dots_max) +
                                    " dots; is this a configuration of ntrace?");
  try {
    const auto parsed = toml::parse(*text, file);
    for (const auto& [key, node] : parsed) {
      const std::string name{key.str()};
      const auto where = "file " + file + ":" + std::to_string(node.source().begin.line);
      if (!find_spec(name))
        return fail(ec::bad_config, "unknown setting " + name + " (" + where +
                                        "); `ntrace config` lists the settings there are");
      const auto text_of = toml_text(name, node);
      if (!text_of) return fail(text_of.error());
      values[name] = {*text_of, where};
    }
  } catch (const toml::parse_error& e) {
    return fail(ec::bad_config, file + ":" + std::to_string(e.source().begin.line) + ": " +
                                    std::string{e.description()});
  } catch (const std::exception& e) {
    return fail(ec::bad_config, file + " cannot be read: " + e.what());
  }
  return {};
}

}  // namespace

std::span<const setting_spec> setting_table() { return table; }

std::string setting_flag(std::string_view key) {
  std::string out = "--" + std::string{key};
  std::replace(out.begin(), out.end(), '_', '-');
  return out;
}

std::string setting_variable(std::string_view key) { return "NTRACE_" + uppered(key); }

std::optional<std::int64_t> parse_bytes(std::string_view text) {
  constexpr std::pair<std::string_view, int> units[] = {{"KiB", 10}, {"MiB", 20}, {"GiB", 30}};
  int shift = 0;
  for (const auto& [suffix, bits] : units) {
    if (text.ends_with(suffix)) {
      shift = bits;
      text.remove_suffix(suffix.size());
      break;
    }
  }
  const auto number = parse_number(text);
  if (!number || *number < 0 || *number > (INT64_MAX >> shift)) return {};
  return *number << shift;
}

result<host_port> parse_host_port(std::string_view text) {
  const auto colon = text.rfind(':');
  auto host =
      colon == std::string_view::npos ? std::string_view{"127.0.0.1"} : text.substr(0, colon);
  const auto port = parse_number(colon == std::string_view::npos ? text : text.substr(colon + 1));
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host.empty() || !port || *port < 0 || *port > 65535)
    return fail(ec::bad_config, "\"" + std::string{text} + "\" is not HOST:PORT");
  return host_port{std::string{host}, static_cast<std::uint16_t>(*port)};
}

result<settings> settings::load(
    const std::string& file,
    const std::function<std::optional<std::string>(const std::string&)>& env,
    const std::map<std::string, std::string>& flags) {
  settings out;
  for (const auto& spec : table)
    out.values_[std::string{spec.key}] = {std::string{spec.fallback}, "default"};
  if (!file.empty())
    if (auto read = read_toml(file, out.values_); !read) return fail(read.error());
  for (const auto& spec : table)
    if (const auto value = env(setting_variable(spec.key)))
      out.values_[std::string{spec.key}] = {*value, "env " + setting_variable(spec.key)};
  for (const auto& [key, value] : flags) {
    if (!find_spec(key)) return fail(ec::bad_config, "unknown setting " + key);
    out.values_[key] = {value, "flag " + setting_flag(key)};
  }
  for (const auto& spec : table) {
    auto& value = out.values_[std::string{spec.key}];
    const auto checked = check(spec, value);
    if (!checked) return fail(checked.error());
    value.text = *checked;
  }
  return out;
}

const setting_value& settings::value(std::string_view key) const {
  const auto at = values_.find(key);
  static const setting_value none{};
  return at == values_.end() ? none : at->second;
}

std::string settings::text(std::string_view key) const { return value(key).text; }

std::int64_t settings::number(std::string_view key) const {
  return parse_number(value(key).text).value_or(0);
}

std::vector<std::string> settings::list(std::string_view key) const {
  std::vector<std::string> out;
  std::istringstream in{text(key)};
  for (std::string item; std::getline(in, item, ',');) {
    if (const auto one = trimmed(item, " "); !one.empty()) out.emplace_back(one);
  }
  return out;
}

}  // namespace ntrace
