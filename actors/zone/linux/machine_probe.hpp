#pragma once
// What zones need of the machine, each tried by itself, so that a zone that does not boot has a
// reason. They leave nothing behind.
#include <string>

#include "config/result.hpp"

namespace ntrace::zone {

/// Makes all the kinds of namespaces that a zone has: namespaces(7).
result<void> try_namespaces();

/// Mounts an overlay of folders made below `folder`, as an ordinary user in a namespace of its
/// own: mount(2), with the kernel's word in the error.
result<void> try_overlay(const std::string& folder);

/// Makes a cgroup with all limits. The answer says which hierarchy gives what: cgroups(7).
result<std::string> try_cgroups();

}  // namespace ntrace::zone
