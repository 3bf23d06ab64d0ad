#pragma once
// The filter of system calls that every process of a zone runs under.
#include <string>

#include "config/result.hpp"

namespace ntrace::zone {

/// The compiled filter: an array of sock_filter (seccomp(2)), to be installed by
/// install_syscall_filter. ec::zone_unsupported names the call that this machine does not know.
result<std::string> make_syscall_filter();

/// Sets no_new_privs and installs the filter for this process and all that it will start. False
/// with errno set when the kernel refuses. Only async-signal-safe calls.
bool install_syscall_filter(const std::string& filter);

}  // namespace ntrace::zone
