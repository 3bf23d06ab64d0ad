#include "actors/zone/zone_types.hpp"

namespace ntrace::zone {

nlohmann::json to_json(const clean_receipt& r) {
  nlohmann::json checks = nlohmann::json::array();
  for (const auto& c : r.checks) {
    nlohmann::json one{{"id", c.id}, {"ok", c.ok}};
    if (!c.ok) one["seen"] = c.seen;
    checks.push_back(std::move(one));
  }
  return {{"zone", r.zone},
          {"generation", r.generation},
          {"snapshot", r.snapshot},
          {"backend", r.backend},
          {"at_ms", r.at_ms},
          {"kernel", r.kernel},
          {"layers", r.layers},
          {"limits",
           {{"memory_bytes", r.limits.memory_bytes},
            {"pids", r.limits.pids},
            {"cpu_percent", r.limits.cpu_percent},
            {"disk_bytes", r.limits.disk_bytes},
            {"disk_in_memory", r.limits.disk_in_memory}}},
          {"checks", checks},
          {"degraded", r.degraded},
          {"ok", r.ok()}};
}

clean_receipt receipt_from_json(const nlohmann::json& value) {
  clean_receipt out{value.value("zone", ""),
                    value.value("generation", std::uint64_t{0}),
                    value.value("snapshot", ""),
                    value.value("backend", ""),
                    value.value("at_ms", std::int64_t{0}),
                    value.value("kernel", ""),
                    value.value("layers", std::vector<std::string>{}),
                    {},
                    {},
                    value.value("degraded", std::vector<std::string>{})};
  const auto limits = value.value("limits", nlohmann::json::object());
  out.limits = {
      limits.value("memory_bytes", std::uint64_t{0}), limits.value("pids", std::uint64_t{0}),
      limits.value("cpu_percent", std::uint64_t{0}), limits.value("disk_bytes", std::uint64_t{0}),
      limits.value("disk_in_memory", false)};
  for (const auto& c : value.value("checks", nlohmann::json::array()))
    out.checks.push_back({c.value("id", ""), c.value("ok", false), c.value("seen", "")});
  return out;
}

}  // namespace ntrace::zone
