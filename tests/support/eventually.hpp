#pragma once
// Waiting for real parts: a condition with a deadline, never a sleep of a guessed length.
#include <gtest/gtest.h>
#include <poll.h>

#include <chrono>
#include <functional>
#include <string>

namespace ntrace::test {

/// True as soon as `condition` holds; at the deadline it fails the test with `last()`.
inline bool eventually(
    std::chrono::milliseconds deadline, const std::function<bool()>& condition,
    const std::function<std::string()>& last = [] { return std::string{}; }) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  while (std::chrono::steady_clock::now() < end) {
    if (condition()) return true;
    ::poll(nullptr, 0, 5);
  }
  ADD_FAILURE() << "not within " << deadline.count() << " ms; the last state was: " << last();
  return false;
}

}  // namespace ntrace::test
