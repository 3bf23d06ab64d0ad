#pragma once
// The name of a type as it stands in the source.
#include <cxxabi.h>
#include <cstdlib>
#include <memory>
#include <string>

namespace ntrace::supervision {

inline std::string demangled(const char* name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> readable{
      abi::__cxa_demangle(name, nullptr, nullptr, &status), &std::free};
  return status == 0 ? readable.get() : name;
}

}  // namespace ntrace::supervision
