#pragma once
// A result's value, or a failed test with the error's text.
#include <gtest/gtest.h>

#include "config/result.hpp"

namespace ntrace::test {

template <class T>
T ok(result<T> r) {
  if (!r) throw std::runtime_error("unexpected error: " + to_string(r.error()));
  if constexpr (!std::is_void_v<T>) return std::move(*r);
}

template <class T>
ec code_of(const result<T>& r) {
  return r ? ec::none : r.error().code;
}

}  // namespace ntrace::test
