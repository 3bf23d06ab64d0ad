#include "config/shown_url.hpp"

#include <algorithm>

namespace ntrace {

std::string without_passwords(std::string text) {
  for (auto at = text.find("://"); at != text.npos; at = text.find("://", at + 3)) {
    const auto end = std::min(text.find_first_of("/?# \t\r\n\"'", at + 3), text.size());
    const auto sign = text.rfind('@', end);
    if (sign != text.npos && sign > at) text.erase(at + 3, sign - at - 2);
  }
  return text;
}

}  // namespace ntrace
