#pragma once
// What npm itself says of a failure, found in its output while that passes by.
#include <string>
#include <string_view>
#include <vector>

namespace ntrace::runner {

class npm_words {
public:
  /// Pieces of either stream, as they come.
  void on_output(std::string_view stream, std::string_view data);
  /// The first lines of npm's errors, without the password of any URL; empty when there was none.
  std::string first_errors() const;

private:
  void on_line(std::string_view line);
  std::string out_, err_;  ///< The lines that have not ended yet, cut.
  std::vector<std::string> errors_;
};

}  // namespace ntrace::runner
