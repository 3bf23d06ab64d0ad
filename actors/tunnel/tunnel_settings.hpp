#pragma once
// A tunnel from the settings.
#include "actors/tunnel/tunnel_engine.hpp"
#include "config/settings.hpp"

namespace ntrace::tunnel {

/// ec::bad_config names the setting that cannot be. The setting `tunnel` must not be empty.
result<tunnel_settings> tunnel_settings_from(const settings& s);

/// "HOST:PORT->HOST:PORT"; ec::bad_config.
result<net::reverse_forward> parse_reverse(std::string_view text);

}  // namespace ntrace::tunnel
