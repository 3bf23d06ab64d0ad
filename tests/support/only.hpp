#pragma once
// The effects of one kind among those that a machine gave.
#include <variant>
#include <vector>

namespace ntrace::test {

template <class Effect, class Effects>
std::vector<Effect> only(const Effects& all) {
  std::vector<Effect> out;
  for (const auto& one : all)
    if (const auto* e = std::get_if<Effect>(&one)) out.push_back(*e);
  return out;
}

}  // namespace ntrace::test
