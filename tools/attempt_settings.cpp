#include "tools/attempt_settings.hpp"

#include <algorithm>

#include "config/file.hpp"

namespace ntrace::tools {

zone::helper_options helper_options_from(const settings& s) {
  return {s.text("data"), s.text("ca_file"), s.flag("zone_allow_degraded"), s.text("zone_backend")};
}

result<runner::attempt_options> attempt_options_from(const settings& s) {
  runner::attempt_options out;
  out.limits = {static_cast<std::uint64_t>(s.number("zone_memory_bytes")),
                static_cast<std::uint64_t>(s.number("zone_pids")),
                static_cast<std::uint64_t>(s.number("zone_cpu_percent")),
                static_cast<std::uint64_t>(s.number("zone_disk_bytes")),
                s.text("zone_disk") == "memory"};
  if (const auto where = s.text("zone_disk"); where != "disk" && where != "memory")
    return fail(ec::bad_config, "zone_disk is \"" + where + "\"; it is disk or memory");
  if (out.limits.disk_in_memory && out.limits.disk_bytes == 0)
    return fail(ec::bad_config, "zone_disk = memory needs zone_disk_bytes above 0");
  out.output = {static_cast<std::uint64_t>(s.number("output_bytes")),
                static_cast<std::uint64_t>(s.number("output_hard_bytes"))};
  out.boot = s.duration("boot_ms");
  out.install = s.duration("install_ms");
  out.run = s.duration("run_ms");
  out.frequency = static_cast<std::uint64_t>(s.number("perf_frequency"));
  out.npm_registry = s.text("npm_registry");
  out.scratch = s.text("data") + "/scratch";
  out.source = {s.text("npm_registry"), s.text("github_url"),
                s.text("ca_file"),      out.scratch,
                s.duration("fetch_ms"), {}};
  out.egress.bytes_max = static_cast<std::uint64_t>(s.number("network_bytes_max"));
  const auto private_ok = s.list("network_allow_private");
  for (const auto& text : s.list("network_allow")) {
    auto entry = net::parse_allow_entry(text);
    if (!entry) return fail(entry.error());
    entry->allow_private =
        std::find(private_ok.begin(), private_ok.end(), text) != private_ok.end();
    out.egress.allow.push_back(std::move(*entry));
  }
  out.source.allow = out.egress.allow;
  if (auto made = make_folders(out.scratch); !made) return fail(made.error());
  return out;
}

}  // namespace ntrace::tools
