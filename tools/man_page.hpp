#pragma once
#include "tools/command_tree.hpp"

namespace ntrace::tools {

/// The manual page of section 1 for one command, in the macros of man(7). `version` stands in its
/// footer. The program's own page lists the commands, exit codes and variables.
std::string man_page(const command& of, const std::string& version);
/// The name of its file: "ntrace-journal-check.1".
std::string man_page_file(const command& of);

}  // namespace ntrace::tools
