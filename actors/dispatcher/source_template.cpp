#include "actors/dispatcher/source_template.hpp"

#include <array>
#include <utility>

namespace ntrace::dispatcher {

source_template::source_template(std::string_view pattern) {
  static constexpr std::array<std::pair<std::string_view, slot>, 3> slots{
      {{"{owner}", slot::owner}, {"{repo}", slot::repo}, {"{sha}", slot::sha}}};
  std::string text;
  while (!pattern.empty()) {
    auto found = slot::none;
    for (const auto& [name, which] : slots)
      if (pattern.starts_with(name)) {
        found = which;
        pattern.remove_prefix(name.size());
      }
    if (found != slot::none) {
      pieces_.push_back({std::exchange(text, {}), found});
    } else {
      text += pattern.front();
      pattern.remove_prefix(1);
    }
  }
  pieces_.push_back({std::move(text), slot::none});
}

std::string source_template::fill(std::string_view owner, std::string_view repo,
                                  std::string_view sha) const {
  const std::array<std::string_view, 4> values{"", owner, repo, sha};
  std::string out;
  std::size_t size = 0;
  for (const auto& p : pieces_)
    size += p.text.size() + values[static_cast<std::size_t>(p.then)].size();
  out.reserve(size);
  for (const auto& p : pieces_) out.append(p.text).append(values[static_cast<std::size_t>(p.then)]);
  return out;
}

bool source_template::gives(std::string_view source, std::string_view owner, std::string_view repo,
                            std::string_view sha) const {
  const std::array<std::string_view, 4> values{"", owner, repo, sha};
  for (const auto& p : pieces_)
    for (const auto part : {std::string_view{p.text}, values[static_cast<std::size_t>(p.then)]}) {
      if (!source.starts_with(part)) return false;
      source.remove_prefix(part.size());
    }
  return source.empty();
}

}  // namespace ntrace::dispatcher
