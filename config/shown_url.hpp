#pragma once
// URLs as people are shown them. Pure.
#include <string>

namespace ntrace {

/// Each "scheme://user:password@host" in the text without what stands before its host.
std::string without_passwords(std::string text);

}  // namespace ntrace
