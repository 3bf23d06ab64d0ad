#pragma once
// JSON that a file, a peer or a registry gives, for code that walks it by recursion.
#include <nlohmann/json.hpp>
#include <string_view>

namespace ntrace {

/// The depth of the brackets outside strings, of any bytes.
int json_depth(std::string_view text);

/// The value of `text`, nested no deeper than limits::json_depth_max. Anything else gives a
/// discarded value. nlohmann's parser needs no stack for depth, but to copy, compare or print what
/// it read does: a megabyte of brackets would end the process.
nlohmann::json parse_or_discard(std::string_view text);

}  // namespace ntrace
