#pragma once
// All settings there are, each in one row, and the addresses that stand where none is given. A
// setting is asked for by its key, which is looked up here when the program is compiled.
#include <array>
#include <cstdint>
#include <string_view>

namespace ntrace {

enum class setting_type { text, count, bytes, duration_ms, list, flag };

/// One key. Its flag is `--key-with-dashes`, its variable `NTRACE_KEY_IN_CAPITALS`.
struct setting_spec {
  std::string_view key;
  setting_type type;
  std::string_view fallback;
  std::string_view help;
  std::int64_t min = 0;  ///< For numbers.
  std::int64_t max = INT64_MAX / 2;
};

inline constexpr std::string_view dispatcher_address = "127.0.0.1:9181";
inline constexpr std::string_view runner_address = "127.0.0.1:9182";
inline constexpr std::string_view shell_address = "127.0.0.1:9183";
inline constexpr std::string_view github_address = "https://codeload.github.com";
inline constexpr std::string_view npm_address = "https://registry.npmjs.org/";

namespace detail {
using enum setting_type;

/// In the order in which `ntrace config` prints them.
inline constexpr std::array setting_table{
    setting_spec{"data", text, "", "folder of the journal and the zones"},
    setting_spec{"dispatcher", text, dispatcher_address, "where the dispatcher serves RPC"},
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
    setting_spec{"tunnel_listen", text, dispatcher_address, "the runner's own end of the tunnel"},
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
    setting_spec{"runner", text, runner_address, "where the runner serves RPC"},
    setting_spec{"runner_name", text, "", "the runner's name; the host's name when empty"},
    setting_spec{"workers", count, "1", "worker zones that `up` and `runner` make", 0, 256},
    setting_spec{"log_level", text, "info", "debug, info, warn, error or off"},
    setting_spec{"source_template", text, "github:{owner}/{repo}@{sha}",
                 "where a push's source comes from: a SPEC with {owner} {repo} {sha}"},
    setting_spec{"github_url", text, github_address, "where github: sources are fetched from"},
    setting_spec{"npm_registry", text, npm_address, "the npm registry"},
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

}  // namespace detail

inline constexpr const auto& setting_table = detail::setting_table;

/// A row of the table. An unknown key, or one of another type, does not compile.
class setting_key {
public:
  consteval setting_key(const char* key) : index_{index_of(key)} {}
  constexpr std::size_t index() const { return index_; }
  constexpr const setting_spec& spec() const { return setting_table[index_]; }
  constexpr bool operator==(const setting_key&) const = default;

private:
  static consteval std::size_t index_of(std::string_view key) {
    for (std::size_t i = 0; i < setting_table.size(); ++i)
      if (setting_table[i].key == key) return i;
    throw "there is no such setting";
  }
  std::size_t index_;
};

template <setting_type... Types>
class setting_of : public setting_key {
public:
  consteval setting_of(const char* key) : setting_key{key} {
    if (((spec().type != Types) && ...)) throw "this setting is of another type";
  }
};
using text_setting = setting_of<setting_type::text>;
using number_setting = setting_of<setting_type::count, setting_type::bytes>;
using duration_setting = setting_of<setting_type::duration_ms>;
using list_setting = setting_of<setting_type::list>;
using flag_setting = setting_of<setting_type::flag>;

}  // namespace ntrace
