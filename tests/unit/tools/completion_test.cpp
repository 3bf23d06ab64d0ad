// What a shell offers, and the manual pages: both from the tree of commands.
#include "tools/completion.hpp"

#include <gtest/gtest.h>

#include "tools/man_page.hpp"

using namespace ntrace::tools;

namespace {

argument flag(std::string name) {
  argument out;
  out.names = {std::move(name)};
  out.group = "Options";
  return out;
}
argument option(std::string name, std::vector<std::string> choices = {}) {
  auto out = flag(std::move(name));
  out.value = "TEXT";
  out.choices = std::move(choices);
  return out;
}

command program() {
  command draw{
      "tool draw", "Draws a run", {option("--format", {"svg", "html"}), flag("--json")}, {}, {}};
  draw.options[0].names = {"-f", "--format"};
  draw.positionals = {option("RUN")};
  command look{"tool look", "Looks", {}, {option("ROLE", {"up", "runner"})}, {}};
  command check{"tool store check", "Checks it", {}, {}, {}};
  command store{"tool store", "The store", {}, {}, {check}};
  return {"tool", "A tool", {flag("--version")}, {}, {draw, look, store}};
}

/// The words offered, with a space between.
std::string offered(std::vector<std::string> words) {
  std::string out;
  const auto ask = [](const std::string& name, const std::vector<std::string>&) {
    return name == "RUN" ? std::vector<candidate>{{"01AB", "done"}, {"01CD", "queued"}}
                         : std::vector<candidate>{};
  };
  for (const auto& one : complete(program(), words, ask)) out += one.word + " ";
  return out;
}

}  // namespace

TEST(completion, offers_commands_and_what_is_below_them) {
  EXPECT_EQ(offered({""}), "draw look store ");
  EXPECT_EQ(offered({"d"}), "draw ");
  EXPECT_EQ(offered({"store", ""}), "check ");
  EXPECT_EQ(offered({"look", ""}), "up runner ");
}

TEST(completion, offers_options_that_are_not_given_yet) {
  EXPECT_EQ(offered({"draw", "-"}), "-f --format --json ");
  EXPECT_EQ(offered({"draw", "--json", "--"}), "--format ");
  EXPECT_EQ(offered({"draw", "-f", "svg", "--"}), "--json ") << "by its other name";
}

TEST(completion, offers_the_values_of_an_option_in_both_ways_to_write_it) {
  EXPECT_EQ(offered({"draw", "--format", "h"}), "html ");
  EXPECT_EQ(offered({"draw", "--format=h"}), "--format=html ");
  EXPECT_EQ(offered({"draw", "--format=svg", "--"}), "--json ") << "its value is there";
}

TEST(completion, asks_for_what_only_a_server_knows) {
  EXPECT_EQ(offered({"draw", ""}), "01AB 01CD ");
  EXPECT_EQ(offered({"draw", "--format", "svg", "01C"}), "01CD ");
  EXPECT_EQ(offered({"draw", "01AB", ""}), "") << "there is one place for a run";
}

TEST(completion, says_nothing_where_it_knows_nothing) {
  EXPECT_EQ(offered({}), "");
  EXPECT_EQ(offered({"bogus", ""}), "");
  EXPECT_EQ(offered({"draw", "--bogus=", "--bogus="}), "");
  EXPECT_EQ(offered({"draw", "--", "--"}), "") << "behind -- all belongs to another program";
}

TEST(man_page, lists_commands_arguments_and_where_to_read_on) {
  EXPECT_NE(man_page(program(), "tool 1").find("\\fBtool\\-draw\\fR(1)\nDraws a run\n"),
            std::string::npos);
  const auto draw = man_page(program().commands[0], "tool 1");
  EXPECT_NE(draw.find("\\fBtool draw\\fR [\\fIOPTIONS\\fR] [\\fIRUN\\fR]\n"), std::string::npos)
      << draw;
  EXPECT_NE(draw.find("\\fB\\-f\\fR, \\fB\\-\\-format\\fR \\fBsvg\\fR|\\fBhtml\\fR\n"),
            std::string::npos)
      << draw;
  EXPECT_EQ(man_page_file(program().commands[2].commands[0]), "tool-store-check.1");
}

TEST(man_page, gives_text_that_looks_like_a_request_as_it_is) {
  auto odd = program();
  odd.text = ".so /etc/passwd \\fB “é𝄞”";
  const auto page = man_page(odd, "tool 1");
  EXPECT_NE(page.find(".so /etc/passwd \\efB \\[u201C]\\[u00E9]\\[u1D11E]\\[u201D]"),
            std::string::npos)
      << page;
  odd.commands[0].text = odd.text;
  EXPECT_NE(man_page(odd, "tool 1").find("\n\\&.so"), std::string::npos);
}
