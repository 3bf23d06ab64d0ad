#pragma once
// What a shell offers when the user presses the tabulator key.
#include <functional>

#include "tools/command_tree.hpp"

namespace ntrace::tools {

struct candidate {
  std::string word;  ///< What the whole word becomes.
  std::string text;  ///< Shown beside it where the shell can; may be empty.
};

/// Values that only a server knows. Takes what the argument is called ("RUN") and the words before
/// it.
using ask_for_values = std::function<std::vector<candidate>(const std::string& name,
                                                            const std::vector<std::string>& words)>;

/// `words` are those behind the program's name, the last one the one to complete, as far as it is
/// typed. Nothing when there is nothing to say: the shell then offers files.
std::vector<candidate> complete(const command& program, const std::vector<std::string>& words,
                                const ask_for_values& ask);

}  // namespace ntrace::tools
