// One screen of `ntrace top`.
#include "tools/top_frame.hpp"

#include <gtest/gtest.h>

#include "tools/text.hpp"

using namespace ntrace;
using namespace ntrace::tools;
using namespace std::chrono_literals;
using nlohmann::json;

namespace {

top_sample fleet(int runners, int leases, int runs) {
  top_sample out;
  out.at = time_point{} + 100s;
  out.wall_ms = 1'700'000'000'000;
  out.address = "127.0.0.1:9181";
  out.status = {{"waiting", 3},
                {"draining", false},
                {"runs", {{"done", 40}, {"failed", 2}}},
                {"invariants", {{"violations", 0}}},
                {"gauges", {{"journal_commits", 10}, {"journal_commit_us_sum", 25'000}}},
                {"runners", json::array()},
                {"leases", json::array()}};
  for (int i = 0; i < runners; ++i)
    out.status["runners"].push_back(
        {{"name", "runner" + std::to_string(i)}, {"workers", 4}, {"free", 1}});
  for (int i = 0; i < leases; ++i)
    out.status["leases"].push_back({{"run", "L" + std::to_string(i)},
                                    {"runner", "on" + std::to_string(i)},
                                    {"attempt", 1},
                                    {"expires_in_ms", 29'000}});
  out.runs = json::array();
  for (int i = 0; i < runs; ++i)
    out.runs.push_back({{"run", "R" + std::to_string(i)},
                        {"state", "done"},
                        {"owner", "o"},
                        {"repo", "r"},
                        {"sha", std::string(40, 'a')},
                        {"created_ms", out.wall_ms - 5000}});
  out.tree = {{"children",
               {{{"id", "sup"},
                 {"state", "running"},
                 {"restarts", 2},
                 {"tree", {{"children", {{{"id", "leaf"}, {"state", "running"}}}}}}}}}};
  return out;
}

std::string text(const std::vector<top_line>& lines) {
  std::string out;
  for (const auto& line : lines) out += line.text + "\n";
  return out;
}

}  // namespace

TEST(top_frame, fits_the_smallest_terminal_whatever_there_is_to_show) {
  for (const auto& s : {fleet(0, 0, 0), fleet(3, 2, 50), fleet(100, 100, 50)}) {
    const auto lines = top_frame(s, nullptr, 80, 23);
    EXPECT_LE(lines.size(), 23u);
    for (const auto& line : lines) EXPECT_LE(line.text.size(), 80u) << line.text;
  }
  EXPECT_LE(top_frame(fleet(3, 3, 3), nullptr, 1, 1).size(), 1u);
}

TEST(top_frame, shows_counts_load_leases_and_runs) {
  const auto seen = text(top_frame(fleet(3, 2, 5), nullptr, 80, 23));
  for (const char* part :
       {"3 waiting", "40 done", "0 violations  2 restarts", "runner2", "###############.....", "L1",
        "on1", "29 s", "R4", "o/r", "2.5 ms a commit"})
    EXPECT_NE(seen.find(part), std::string::npos) << part << "\n" << seen;
}

TEST(top_frame, says_how_many_it_leaves_out) {
  const auto seen = text(top_frame(fleet(100, 0, 0), nullptr, 80, 23));
  EXPECT_NE(seen.find(" more"), std::string::npos) << seen;
  EXPECT_NE(seen.find("LATEST RUN"), std::string::npos) << "each section has its room";
}

TEST(top_frame, gives_rates_between_two_looks) {
  const auto before = fleet(1, 0, 0);
  auto now = before;
  now.at += 30s;
  now.status["runs"]["done"] = 50;
  EXPECT_NE(text(top_frame(now, &before, 80, 23)).find("20.0 verdicts/min"), std::string::npos);
}

TEST(top_frame, shows_trouble_as_trouble) {
  const auto style = [](const top_sample& s) { return top_frame(s, nullptr, 200, 23)[3]; };
  EXPECT_EQ(style(fleet(1, 0, 0)).style, top_style::good);
  auto broken = fleet(1, 0, 0);
  broken.tree["children"][0]["tree"]["children"][0]["state"] = "restarting";
  EXPECT_EQ(style(broken).style, top_style::bad);
  EXPECT_NE(style(broken).text.find("sup/leaf restarting"), std::string::npos);
  auto violated = fleet(1, 0, 0);
  violated.status["invariants"]["violations"] = 1;
  EXPECT_EQ(style(violated).style, top_style::bad);
}

TEST(top_frame, keeps_when_the_next_try_is_of_a_wait_that_is_too_long_for_the_line) {
  auto s = fleet(1, 0, 1);
  const std::string host(90, 'h');
  s.status["outages"] = {{{"host", host},
                          {"cause", "no_route"},
                          {"since_ms", s.wall_ms - 9000},
                          {"runs", 2},
                          {"next_try_in_ms", 41'000}}};
  s.runs[0]["waits_for"] = host + ": no route since 2026-01-31 12:03:44 UTC, next try in 42 s";
  for (const std::size_t width : {80u, 200u}) {
    int outages = 0, waits = 0;
    for (const auto& line : top_frame(s, nullptr, width, 23)) {
      EXPECT_LE(line.text.size(), width);
      outages += line.text.ends_with(", next try in 41 s") ? 1 : 0;
      waits += line.text.ends_with(", next try in 42 s") ? 1 : 0;
    }
    EXPECT_EQ(outages, 1) << width;
    EXPECT_EQ(waits, 1) << width;
  }
}

TEST(top_frame, lets_no_control_bytes_of_a_push_through) {
  auto s = fleet(1, 0, 1);
  s.runs[0]["repo"] = "\x1b[2J\xff";
  for (const auto& line : top_frame(s, nullptr, 80, 23))
    for (const char c : line.text) EXPECT_TRUE(c >= 0x20 && c < 0x7f) << line.text;
}

TEST(top_frame, shows_names_of_any_script_where_the_terminal_can) {
  auto s = fleet(1, 0, 2);
  s.runs[0]["repo"] = "b\u00fccher-\u672c\u68da";
  s.runs[1]["repo"] = "\u202eevil\xc2\x9b";
  const auto seen = text(top_frame(s, nullptr, 120, 23, top_charset::utf8));
  EXPECT_NE(seen.find("o/b\u00fccher-\u672c\u68da"), std::string::npos) << seen;
  EXPECT_NE(seen.find("o/\\u{202e}evil\\u{9b}"), std::string::npos) << seen;
  const auto plain = text(top_frame(s, nullptr, 120, 23));
  EXPECT_NE(plain.find("o/b??cher-??????"), std::string::npos) << plain;
}

TEST(top_frame, cuts_by_columns_and_never_inside_of_a_character) {
  auto s = fleet(0, 0, 1);
  for (const std::string piece : {"\u672c", "e\u0301", "\U0001f600", "\xff", "a"}) {
    std::string name;
    for (int i = 0; i < 60; ++i) name += piece;
    s.runs[0]["repo"] = name;
    for (std::size_t width = 1; width < 90; ++width)
      for (const auto& line : top_frame(s, nullptr, width, 23, top_charset::utf8)) {
        EXPECT_LE(display_width(line.text), width) << line.text;
        EXPECT_EQ(one_line(line.text), line.text) << "a broken character";
      }
  }
}

TEST(display_width, counts_columns_of_a_terminal) {
  EXPECT_EQ(display_width("abc"), 3u);
  EXPECT_EQ(display_width("\u00fc"), 1u);
  EXPECT_EQ(display_width("\u672c"), 2u);
  EXPECT_EQ(display_width("e\u0301"), 1u);
  EXPECT_EQ(display_width("\xff\xfe"), 2u);
  EXPECT_EQ(cut_to_width("\u672c\u672c\u672c", 5, "~"), "\u672c\u672c~");
  EXPECT_EQ(cut_to_width("\u672c\u672c", 4, "~"), "\u672c\u672c");
  EXPECT_EQ(cut_to_width("ab", 1, "~"), "");
  std::string stacked = "a";
  for (int i = 0; i < 100; ++i) stacked += "\u0301";
  EXPECT_EQ(cut_to_width(stacked, 10, "~").size(), 1 + 4 * 2u) << "marks that cover other lines";
}

TEST(table, aligns_characters_of_two_columns) {
  EXPECT_EQ(table({{"\u672c", "x"}, {"abc", "y"}}), "\u672c   x\nabc  y\n");
}

TEST(top_frame, takes_answers_that_lack_what_it_looks_for) {
  top_sample empty;
  empty.status = json::object();
  empty.runs = json::array();
  empty.tree = json::object();
  EXPECT_FALSE(top_frame(empty, nullptr, 80, 24).empty());
}
