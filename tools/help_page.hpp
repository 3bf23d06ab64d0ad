#pragma once
// The text of --help. Pure.
#include <string>

#include "tools/command_tree.hpp"

namespace ntrace::tools {

/// At most `width` columns wide; common settings come first.
std::string help_page(const command& of, bool with_rare, std::size_t width = 100);

}  // namespace ntrace::tools
