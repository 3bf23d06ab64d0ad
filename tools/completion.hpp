#pragma once
// What a shell offers when the user presses the tabulator key.
#include <functional>

#include "tools/command_tree.hpp"

namespace ntrace::tools {

struct candidate {
  std::string word;  ///< The whole word, completed.
  std::string text;  ///< Shown beside it, if the shell can; may be empty.
};

/// Values that only a server knows. Takes what the argument is called ("RUN") and the words before
/// it.
using ask_for_values = std::function<std::vector<candidate>(const std::string& name,
                                                            const std::vector<std::string>& words)>;

/// `words` follow the program's name. The last one is to be completed, as far as it is typed. Empty
/// when there is no offer: the shell then offers files.
std::vector<candidate> complete(const command& program, const std::vector<std::string>& words,
                                const ask_for_values& ask);

}  // namespace ntrace::tools
