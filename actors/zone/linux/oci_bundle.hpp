#pragma once
// What an OCI runtime is told of a zone: the text of a bundle's config.json, from the same tables
// of limits, mounts and system calls that the engine of our own uses.
// https://github.com/opencontainers/runtime-spec, config.md and config-linux.md, version 1.0.2.
#include <nlohmann/json.hpp>
#include <string>

#include "actors/zone/linux/namespaces.hpp"

namespace ntrace::zone {

/// Where the runtime finds the zone's root, in a mount namespace of its own.
inline constexpr const char* oci_root = "/mnt";
/// Where it finds the program of zone init, left open by --preserve-fds.
inline constexpr int oci_init_fd = 4;

/// Of the zone that is called `name` for the runtime and in the cgroups, in the user namespace at
/// `user_path`. Pure.
nlohmann::json oci_bundle(const boot_plan& plan, const std::string& name,
                          const std::string& user_path);

}  // namespace ntrace::zone
