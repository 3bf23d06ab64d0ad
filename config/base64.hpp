#pragma once
// Base 64 with its padding and without white space (RFC 4648, section 4), by OpenSSL.
#include <optional>
#include <string>
#include <string_view>

namespace ntrace {

std::string to_base64(std::string_view bytes);

/// Nothing for what to_base64() would not have written, and for more than 1 MiB of text.
std::optional<std::string> from_base64(std::string_view text);

}  // namespace ntrace
