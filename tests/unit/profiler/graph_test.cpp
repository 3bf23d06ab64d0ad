// The flame graph and the other formats: valid and inert whatever the frame names are.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "actors/profiler/flame_graph.hpp"
#include "actors/profiler/fold.hpp"
#include "actors/profiler/formats.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/seeded.hpp"
#include "tests/support/xml.hpp"

using namespace ntrace;
using namespace ntrace::profiler;

namespace {

stack_set from(const std::string& text) {
  return std::move(test::ok(fold_folded(text, {})).stacks);
}

const std::string hostile =
    "</script><script>x=1//;]]> 3\n&amp;<b>;\"'`${x} 2\n--><!-- 1\n__proto__;constructor "
    "4\n\x01\x7f\x1b[31m;\xff\xfe 5\n\xe2\x80\xae\xe2\x80\xa8 1\n"
    "javascript:alert(1);onload=x 1\n" +
    std::string(5000, 'n') + " 1\n";

}  // namespace

TEST(flame_svg, is_well_formed_xml_for_hostile_names) {
  const auto svg = flame_svg(from(hostile), {"<&\"'>", "]]></script>"});
  EXPECT_EQ(test::xml_error(svg), "");
  EXPECT_EQ(svg.find("<script>x=1"), std::string::npos);
  EXPECT_EQ(svg.find('\x1b'), std::string::npos);
}

TEST(flame_svg, is_well_formed_xml_for_random_bytes) {
  test::seeded s;
  for (int round = 0; round < 200; ++round) {
    std::string text;
    for (int line = 0; line < 20; ++line) {
      for (std::uint64_t i = 0, n = 1 + s.random.below(40); i < n; ++i)
        text.push_back(static_cast<char>(1 + s.random.below(255)));
      text += " 7\n";
    }
    const auto folded = fold_folded(text, {});
    ASSERT_TRUE(!folded || test::xml_error(flame_svg(folded->stacks, {})).empty());
  }
}

TEST(flame_svg, gives_the_same_bytes_for_the_same_stacks_in_any_order) {
  EXPECT_EQ(flame_svg(from("a;b 1\na;c 2\n"), {}), flame_svg(from("a;c 2\na;b 1\n"), {}));
}

TEST(flame_svg, sums_frames_that_are_too_narrow_to_see) {
  std::string text = "a;wide 1000000\n";
  for (int i = 0; i < 300; ++i) text += "a;narrow" + std::to_string(i) + " 10\n";
  const auto svg = flame_svg(from(text), {});
  EXPECT_EQ(svg.find("narrow7"), std::string::npos);
  EXPECT_NE(svg.find("…(300)"), std::string::npos);
}

TEST(flame_svg, raises_the_threshold_until_it_fits_and_says_so) {
  std::string text;
  for (int i = 0; i < 3000; ++i)
    text += "f" + std::to_string(i) + ";g" + std::to_string(i % 7) + " 1\n";
  const auto svg = flame_svg(from(text), {"t", "s", 0.1, 200'000});
  EXPECT_LE(svg.size(), 200'000u);
  EXPECT_NE(svg.find("are summed"), std::string::npos);
  EXPECT_EQ(test::xml_error(svg), "");
}

TEST(flame_svg, draws_nothing_but_the_root_of_no_samples) {
  EXPECT_EQ(test::xml_error(flame_svg(stack_set{}, {})), "");
}

TEST(flame_html, runs_no_script_but_its_own) {
  const auto html = flame_html(from(hostile), {"<title>", ""});
  EXPECT_NE(html.find("default-src 'none'"), std::string::npos);
  EXPECT_NE(html.find("script-src 'sha256-"), std::string::npos);
  std::size_t scripts = 0;
  for (auto at = html.find("<script"); at != std::string::npos; at = html.find("<script", at + 1))
    ++scripts;
  EXPECT_EQ(scripts, 1u);
}

TEST(hottest_frames, counts_a_recursive_frame_once_per_sample) {
  const auto rows = hottest_frames(from("a;b;a 3\na;c 2\n"), 10);
  for (const auto& r : rows)
    if (r.name == "a") {
      EXPECT_EQ(r.total, 5u);
      EXPECT_EQ(r.self, 3u);
    }
  EXPECT_EQ(rows.front().name, "a");
}

TEST(hottest_table, keeps_within_the_width) {
  const auto table = hottest_table(from(std::string(300, 'x') + " 1\n"), 5, 60);
  std::istringstream lines{table};
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 62u);
}

TEST(speedscope_json, carries_every_stack_and_back) {
  const auto stacks = from(hostile);
  const auto out = nlohmann::json::parse(speedscope_json(stacks, "n"));
  std::string again;
  const auto& profile = out["profiles"][0];
  for (std::size_t i = 0; i < profile["samples"].size(); ++i) {
    std::string line;
    for (const auto& f : profile["samples"][i])
      line += (line.empty() ? "" : ";") +
              out["shared"]["frames"][f.get<std::size_t>()]["name"].get<std::string>();
    again += line + " " + profile["weights"][i].dump() + "\n";
  }
  EXPECT_EQ(from(again).folded(), stacks.folded());
}

TEST(stack_set, refuses_a_sum_above_64_bits) {
  stack_set uut;
  const std::vector<stack_set::frame_id> stack{uut.intern("a")};
  test::ok(uut.add(stack, UINT64_MAX));
  EXPECT_EQ(test::code_of(uut.add(stack, 1)), ec::overflow);
}

TEST(stack_set, merges_to_the_same_as_adding_everything_to_one) {
  auto a = from("x;y 1\nx 2\n");
  test::ok(a.add(from("x;y 4\nz 1\n")));
  EXPECT_EQ(a.folded(), "x 2\nx;y 5\nz 1\n");
}
