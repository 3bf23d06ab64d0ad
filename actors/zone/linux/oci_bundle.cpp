#include "actors/zone/linux/oci_bundle.hpp"

#include "actors/zone/linux/mounts.hpp"
#include "actors/zone/linux/syscall_policy.hpp"
#include "actors/zone/linux/zone_mounts.hpp"
#include "actors/zone/linux/zone_sights.hpp"

namespace ntrace::zone {
namespace {

using nlohmann::json;

constexpr std::uint64_t cpu_period_us = 100'000;  // the kernel's default

json words(std::string_view text) {
  auto out = json::array();
  while (!text.empty()) {
    const auto at = std::min(text.find(','), text.size());
    out.push_back(text.substr(0, at));
    text.remove_prefix(std::min(at + 1, text.size()));
  }
  return out;
}

json mounts_of(const boot_plan& plan) {
  auto out = json::array();
  for (const auto& one : zone_mounts) {
    if (one.at == "/dev" && plan.mounts.devices >= 0) {
      // It lies there already; a runtime makes devices of its own unless it is told of a bind.
      out.push_back({{"destination", one.at},
                     {"type", "bind"},
                     {"source", oci_root + std::string{one.at}},
                     {"options", words("bind," + std::string{one.flags})}});
      continue;
    }
    auto options = std::string{one.flags};
    if (!one.data.empty()) options.append(",").append(one.data);
    if (one.is_sized) options += "," + size_options(plan.tmp_bytes);
    out.push_back({{"destination", one.at},
                   {"type", one.type},
                   {"source", one.type},
                   {"options", words(options)}});
  }
  for (const auto& one : plan.limits_views)
    out.push_back({{"destination", one.inside},
                   {"type", "bind"},
                   {"source", one.host},
                   {"options", words("bind," + std::string{limits_flags})}});
  return out;
}

const char* name_of(denied_argument::test is) {
  switch (is) {
    case denied_argument::test::equal:
      return "SCMP_CMP_EQ";
    case denied_argument::test::not_equal:
      return "SCMP_CMP_NE";
    case denied_argument::test::at_least:
      return "SCMP_CMP_GE";
    case denied_argument::test::masked_equal:
      break;
  }
  return "SCMP_CMP_MASKED_EQ";
}

/// Without a list of architectures the filter is for the machine's own; others kill.
json filter_of_calls() {
  auto rules = json::array();
  const auto add = [&rules](std::string_view name, int answer) -> json& {
    rules.push_back({{"names", {name}}, {"action", "SCMP_ACT_ERRNO"}, {"errnoRet", answer}});
    return rules.back();
  };
  for (const auto& one : denied_calls) add(one.name, one.answer);
  for (const auto& one : denied_uses()) {
    auto arguments = json::array();
    for (const auto& a : one.arguments) {
      const bool is_masked = a.is == denied_argument::test::masked_equal;
      arguments.push_back({{"index", a.index},
                           {"op", name_of(a.is)},
                           {"value", is_masked ? a.mask : a.value},
                           {"valueTwo", is_masked ? a.value : 0}});
    }
    add(one.name, one.answer)["args"] = std::move(arguments);
  }
  return {{"defaultAction", "SCMP_ACT_ALLOW"}, {"syscalls", std::move(rules)}};
}

json process_of(const boot_plan& plan) {
  // init_capabilities, by name.
  const json rights{"CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP"};
  json arguments{"/proc/self/fd/" + std::to_string(oci_init_fd)};
  for (auto& word : init_words(plan)) arguments.push_back(std::move(word));
  return {{"terminal", false},
          {"user", {{"uid", 0}, {"gid", 0}}},
          {"cwd", "/"},
          {"env", json::array()},
          {"args", std::move(arguments)},
          {"noNewPrivileges", true},
          {"capabilities", {{"bounding", rights}, {"effective", rights}, {"permitted", rights}}}};
}

}  // namespace

json oci_bundle(const boot_plan& plan, const std::string& name, const std::string& user_path) {
  const json ids{{{"containerID", 0}, {"hostID", plan.ids.root}, {"size", ids_per_zone}}};
  auto namespaces = json::array({{{"type", "user"}, {"path", user_path}}});
  for (const char* type : {"pid", "network", "ipc", "uts", "mount", "cgroup"})
    namespaces.push_back({{"type", type}});
  auto masked = json::array();
  for (const auto path : masked_files) masked.push_back(path);
  for (const auto path : masked_folders) masked.push_back(path);
  const auto& limits = plan.limits;
  const json resources{
      {"devices", {{{"allow", false}, {"access", "rwm"}}}},
      {"memory", {{"limit", limits.memory_bytes}}},
      {"pids", {{"limit", limits.pids}}},
      {"cpu", {{"quota", limits.cpu_percent * cpu_period_us / 100}, {"period", cpu_period_us}}}};
  return {{"ociVersion", "1.0.2"},
          {"hostname", "zone"},
          {"root", {{"path", oci_root}}},
          {"process", process_of(plan)},
          {"mounts", mounts_of(plan)},
          {"linux",
           {{"namespaces", std::move(namespaces)},
            {"uidMappings", ids},
            {"gidMappings", ids},
            {"cgroupsPath", zone_cgroup::path_of(name)},
            {"resources", resources},
            {"seccomp", filter_of_calls()},
            {"maskedPaths", std::move(masked)},
            {"readonlyPaths", readonly_folders}}}};
}

}  // namespace ntrace::zone
