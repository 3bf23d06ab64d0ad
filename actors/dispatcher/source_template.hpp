#pragma once
// Where the source of a push is when it does not say so itself.
#include <string>
#include <string_view>
#include <vector>

namespace ntrace::dispatcher {

/// A text with {owner}, {repo} and {sha} in it (setting source_template).
class source_template {
public:
  explicit source_template(std::string_view pattern);
  std::string fill(std::string_view owner, std::string_view repo, std::string_view sha) const;
  /// True if `source` is what fill() would give.
  bool gives(std::string_view source, std::string_view owner, std::string_view repo,
             std::string_view sha) const;

private:
  enum class slot { none, owner, repo, sha };
  struct piece {
    std::string text;
    slot then;  ///< What follows the text.
  };
  std::vector<piece> pieces_;
};

}  // namespace ntrace::dispatcher
