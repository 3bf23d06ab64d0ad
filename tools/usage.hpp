#pragma once
// What is wrong with a command line, in words that name the word. Pure.
#include <optional>
#include <string>
#include <vector>

#include "tools/command_tree.hpp"

namespace ntrace::tools {

/// The first fault of `words`, the command line without the program's name; nothing when there is
/// none that can be named here.
std::optional<std::string> find_fault(const command& program,
                                      const std::vector<std::string>& words);

/// Joins "--flag true" to "--flag=true", so that a flag may stand alone or with its value.
std::vector<std::string> join_flag_values(const command& program, std::vector<std::string> words);

/// What the argument takes: "a whole number of milliseconds", "svg, html or text". Empty: any text.
std::string kind_text(const argument& a);

/// The word of `all` that `word` was probably meant to be; empty when none is near.
std::string nearest(const std::string& word, const std::vector<std::string>& all);

}  // namespace ntrace::tools
