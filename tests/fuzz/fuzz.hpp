#pragma once
// Untrusted input, mutated from a corpus: no crash, no hang, no broken promise. NTRACE_FUZZ=N
// rounds per input instead of the quick default; finds are kept as files in tests/data/fuzz/.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "config/file.hpp"
#include "tests/support/seeded.hpp"

namespace ntrace::test {

inline std::size_t rounds() {
  const char* given = std::getenv("NTRACE_FUZZ");
  return given ? std::strtoull(given, nullptr, 10) : 2000;
}

/// The corpus of a target: the files tests/data/fuzz/<name>/*, and what the test adds itself.
inline std::vector<std::string> corpus(const std::string& name, std::vector<std::string> more) {
  std::error_code ignored;
  for (const auto& file : std::filesystem::directory_iterator{
           std::string{NTRACE_TESTS} + "/data/fuzz/" + name, ignored})
    more.push_back(read_file(file.path().string()).value_or(""));
  return more;
}

inline std::string mutated(std::string s, const std::vector<std::string>& all,
                           random_source& random) {
  for (std::uint64_t n = 0, count = 1 + random.below(6); n < count; ++n) {
    const auto at = random.below(s.size() + 1);
    switch (random.below(7)) {
      case 0:
        s.insert(at, 1, static_cast<char>(random.below(256)));
        break;
      case 1:
        if (!s.empty()) s[at % s.size()] = static_cast<char>(random.below(256));
        break;
      case 2:
        s.erase(at, random.below(8));
        break;
      case 3:
        s.resize(at);
        break;
      case 4: {
        const auto& other = all[random.below(all.size())];
        s.insert(at, other.substr(random.below(other.size() + 1), random.below(40)));
        break;
      }
      case 5: {
        static constexpr std::string_view tokens[] = {
            "[",     "]",    "{",    "}",        "\"",  "\\",  "\n", "\r\n", " ",
            ":",     ";",    "(",    ")",        "<",   ">",   "0",  "-1",   "18446744073709551616",
            "1e999", "null", "\xff", "\xf0\x9f", "../", "\x1b"};
        s.insert(at, tokens[random.below(std::size(tokens))]);
        break;
      }
      case 6:
        s.insert(at, std::string(random.below(64), s.empty() ? 'x' : s[at % s.size()]));
        break;
    }
  }
  return s;
}

/// `rounds_per_turn`: for targets that take so many times as long as others.
inline void fuzz(const std::string& name, std::vector<std::string> seeds,
                 const std::function<void(const std::string&)>& target,
                 std::size_t rounds_per_turn = 1) {
  seeded s;
  const auto all = corpus(name, std::move(seeds));
  for (const auto& input : all) target(input);
  for (std::size_t i = 0; i < rounds() / rounds_per_turn; ++i) {
    const auto input = mutated(all[s.random.below(all.size())], all, s.random);
    SCOPED_TRACE("input: " + nlohmann::json(input).dump(-1, ' ', true,
                                                        nlohmann::json::error_handler_t::replace));
    target(input);
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace ntrace::test
