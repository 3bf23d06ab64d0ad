// Text of peers and jobs on a terminal.
#include "config/terminal_text.hpp"

#include <gtest/gtest.h>

using namespace ntrace;

namespace {

std::string shown(std::string_view text) {
  terminal_text uut;
  auto out = uut.add(text);
  return out += uut.end();
}

}  // namespace

TEST(terminal_text, passes_colours_and_ends_them_with_their_line) {
  EXPECT_EQ(shown("\x1b[32mok\x1b[0m\n"), "\x1b[32mok\x1b[0m\n");
  EXPECT_EQ(shown("\x1b[1;38;5;208mred\nnext"), "\x1b[1;38;5;208mred\x1b[0m\nnext");
  EXPECT_EQ(shown("\x1b[38;2;255;0;8mrgb"), "\x1b[38;2;255;0;8mrgb\x1b[0m");
  EXPECT_EQ(shown("\x1b[4:3mcurly"), "\x1b[4:3mcurly\x1b[0m");
  EXPECT_EQ(shown("\x1b[mplain"), "\x1b[mplain");
}

TEST(terminal_text, shows_every_other_sequence) {
  EXPECT_EQ(shown("\x1b[2J"), "\\x1b[2J") << "erases the screen";
  EXPECT_EQ(shown("\x1b[8mhidden"), "\\x1b[8mhidden");
  EXPECT_EQ(shown("\x1b[38;5;1;8mx"), "\\x1b[38;5;1;8mx");
  EXPECT_EQ(shown("\x1b[?25m"), "\\x1b[?25m");
  EXPECT_EQ(shown("\x1b]0;title\x07"), "\\x1b]0;title\\x07");
  EXPECT_EQ(shown("\x1b"
                  "c"),
            "\\x1b"
            "c");
  EXPECT_EQ(shown("\x1b[" + std::string(60, '1') + "m").find('\x1b'), std::string::npos);
  EXPECT_EQ(shown("\x1b[31"), "\\x1b[31") << "cut off";
  EXPECT_EQ(shown("a\bb\x7f\v\f"), "a\\x08b\\x7f\\x0b\\x0c");
  EXPECT_EQ(shown(std::string{"a\0b", 3}), "a\\x00b");
}

TEST(terminal_text, shows_characters_that_hide_or_reorder) {
  EXPECT_EQ(shown("a\xc2\x9b"
                  "2J"),
            "a\\u{9b}2J")
      << "C1: CSI in one character";
  EXPECT_EQ(shown("a\x9b"
                  "2J"),
            "a\\x9b2J")
      << "the same, not valid";
  EXPECT_EQ(shown("x\u202ey"), "x\\u{202e}y");
  EXPECT_EQ(shown("\u2066\u2069\u200e\u200f\u061c"),
            "\\u{2066}\\u{2069}\\u{200e}\\u{200f}\\u{61c}");
  EXPECT_EQ(shown("\u2028\u2029\ufeff\u200b"), "\\u{2028}\\u{2029}\\u{feff}\\u{200b}");
  EXPECT_EQ(shown("\U000e0041"), "\\u{e0041}") << "a tag";
  EXPECT_EQ(shown("pay\u200dpal"), "pay\\u{200d}pal") << "a joiner where none is needed";
}

TEST(terminal_text, passes_what_people_write) {
  for (const char* text : {"✓ 日本語 naïve", "👩‍💻 emoji", "نص عربي", "tab\tand", "♥️"})
    EXPECT_EQ(shown(text), text);
}

TEST(terminal_text, shows_bytes_that_are_no_utf8) {
  EXPECT_EQ(shown("\xff\xc0\x80 \xe2\x82"), "\\xff\\xc0\\x80 \\xe2\\x82");
  EXPECT_EQ(shown("\xed\xa0\x80"), "\\xed\\xa0\\x80") << "a surrogate";
}

TEST(terminal_text, makes_a_progress_bar_lines) {
  EXPECT_EQ(shown("10%\r20%\r\ndone\r\n"), "10%\n20%\ndone\n");
  EXPECT_EQ(shown("\rspin\r\rspin"), "spin\nspin");
  EXPECT_EQ(shown("wrong\r      \rok"), "wrong\n      \nok") << "nothing is overwritten";
}

TEST(terminal_text, takes_a_sequence_in_pieces) {
  const std::string text = "a\x1b[31mb\u202ec👩\r\nd\x1b[2J\xff";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    terminal_text uut;
    auto out = uut.add(std::string_view{text}.substr(0, cut));
    out += uut.add(std::string_view{text}.substr(cut));
    out += uut.end();
    EXPECT_EQ(out, shown(text)) << cut;
  }
}

TEST(terminal_text, lets_no_colour_run_into_another_stream) {
  terminal_text uut;
  EXPECT_EQ(uut.add("\x1b[31mred"), "\x1b[31mred");
  EXPECT_EQ(uut.stop_colours(), "\x1b[0m");
  EXPECT_EQ(uut.stop_colours(), "");
}

TEST(for_terminal, has_no_colours_and_keeps_lines) {
  EXPECT_EQ(for_terminal("a\x1b[31m\r\nb\tc"), "a\\x1b[31m\\x0d\nb\tc");
  EXPECT_EQ(one_line("a\nb\tc\u0085"), "a\\x0ab\\x09c\\u{85}");
}
