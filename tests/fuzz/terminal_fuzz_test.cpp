// Text for a terminal, put together of what terminals take for commands. NTRACE_FUZZ=N rounds.
#include <gtest/gtest.h>

#include "config/terminal_text.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;

namespace {

std::string random_text(random_source& random) {
  static const std::vector<std::string> parts{
      "\x1b",    "[",          "\x1b[31m", "\x1b[38;2;1;2;3m",
      "\x1b[0",  ";",          "m",        "\x1b[8m",
      "\r",      "\n",         "\r\n",     "\t",
      "\x07",    "8",          "\xc2\x9b", "\x9b",
      "\xe2",    "\x80",       "\xae",     "\u202e",
      "\u200d",  "\xff",       "👩",        "é",
      "\x1b]0;", "\U000e0041", "a",        " ",
      "\x7f",    "\xf0",       "\x1b[2J",  ":"};
  std::string out;
  for (std::uint64_t n = random.below(30); n > 0; --n)
    out += random.below(8) == 0 ? std::string(1, static_cast<char>(random.below(256)))
                                : parts[random.below(parts.size())];
  return out;
}

std::string shown_whole(const std::string& text) {
  terminal_text uut;
  auto out = uut.add(text);
  return out += uut.end();
}

}  // namespace

TEST(fuzz, text_for_a_terminal) {
  const char* given = std::getenv("NTRACE_FUZZ");
  test::seeded s;
  for (std::uint64_t n = given ? std::strtoull(given, nullptr, 10) : 20'000; n > 0; --n) {
    const auto text = random_text(s.random);
    const auto shown = shown_whole(text);
    terminal_text uut;
    std::string pieces;
    for (const char c : text) pieces += uut.add({&c, 1});
    pieces += uut.end();
    ASSERT_EQ(pieces, shown) << "it depends on where it was cut: " << one_line(text);
    for (std::size_t i = 0; i < shown.size(); ++i) {
      const auto c = static_cast<unsigned char>(shown[i]);
      ASSERT_TRUE(c >= 0x20 || c == '\n' || c == '\t' || c == 0x1b) << one_line(text);
      if (c != 0x1b) continue;
      ASSERT_EQ(shown.compare(i + 1, 1, "["), 0) << one_line(text);
      ASSERT_EQ(shown.find_first_not_of("0123456789;:", i + 2), shown.find('m', i + 2));
    }
    for (const char* hidden : {"\u202e", "\U000e0041", "\xc2\x9b", "\x7f"})
      ASSERT_EQ(shown.find(hidden), std::string::npos) << one_line(text);
    ASSERT_EQ(one_line(text).find_first_of("\n\t\r\x1b"), std::string::npos);
  }
}
