#include "config/host_port.hpp"

#include "config/ascii.hpp"

namespace ntrace {

result<host_port> parse_host_port(std::string_view text) {
  const auto colon = text.rfind(':');
  auto host =
      colon == std::string_view::npos ? std::string_view{"127.0.0.1"} : text.substr(0, colon);
  const auto port = whole_number(colon == std::string_view::npos ? text : text.substr(colon + 1));
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host.empty() || !port || *port < 0 || *port > 65535)
    return fail(ec::bad_config, "\"" + std::string{text} + "\" is not HOST:PORT");
  return host_port{std::string{host}, static_cast<std::uint16_t>(*port)};
}

}  // namespace ntrace
