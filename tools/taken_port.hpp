#pragma once
// The ports of a server, tried before anything else of it is started.
#include "config/settings.hpp"
#include "tools/role_settings.hpp"

namespace ntrace::tools {

/// ec::bad_config names the setting whose address is taken, the process that has the port, and the
/// flag that chooses another.
result<void> check_ports(const settings& s, role_set roles);

}  // namespace ntrace::tools
