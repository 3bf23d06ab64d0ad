// What a wrong command line is answered with, and --help.
#include "tools/usage.hpp"

#include <gtest/gtest.h>

#include "tools/help_page.hpp"

using namespace ntrace::tools;

namespace {

argument option(std::vector<std::string> names, std::string value, std::string text = "") {
  argument out;
  out.names = std::move(names);
  out.value = std::move(value);
  out.text = std::move(text);
  out.group = "Options";
  return out;
}
argument place(std::string name, bool is_required, std::string text = "") {
  auto out = option({std::move(name)}, "TEXT", std::move(text));
  out.is_required = is_required;
  return out;
}

command program() {
  auto limit = option({"--limit"}, "INT");
  limit.limits = "INT in [1 - 1000]";
  auto state = option({"--state"}, "TEXT");
  state.choices = {"queued", "running", "done"};
  const auto json = option({"--json"}, "");
  auto degraded = option({"--zone-allow-degraded"}, "", "run all the same");
  degraded.takes_true_or_false = true;
  degraded.group = rare_group;
  command push{"ntrace push",
               "Pushes",
               {option({"-k", "--key"}, "TEXT"), json, option({"-h", "--help"}, "")},
               {place("OWNER", true, "whose it is"), place("REPO", true)},
               {}};
  command runs{"ntrace runs", "Lists", {option({"--since-ms"}, "MS"), limit, state, json}, {}, {}};
  command up{"ntrace up", "Serves", {option({"--workers"}, "N"), degraded}, {}, {}};
  command check{"ntrace journal check", "Checks", {}, {place("FILE", false)}, {}};
  command compact{"ntrace journal compact", "Compacts", {}, {}, {}};
  command journal{"ntrace journal", "The journal", {}, {}, {check, compact}};
  return {"ntrace", "A program", {option({"--version"}, "")}, {}, {push, runs, up, journal}};
}

std::string fault(const std::vector<std::string>& words) {
  return find_fault(program(), words).value_or("");
}

}  // namespace

TEST(usage, names_the_wrong_command_and_the_nearest_right_one) {
  EXPECT_EQ(fault({"pusch", "a"}), "unknown command pusch; did you mean push?");
  EXPECT_EQ(fault({"rnus"}), "unknown command rnus; did you mean runs?");
  EXPECT_EQ(fault({"bake"}), "unknown command bake; `ntrace --help` lists the commands");
  EXPECT_EQ(fault({"journal", "chek"}),
            "unknown command chek of ntrace journal; did you mean check?");
  EXPECT_EQ(fault({"journal", "vanish"}),
            "unknown command vanish of ntrace journal: there are check and compact");
  EXPECT_EQ(fault({"journal"}), "ntrace journal needs a command: check or compact");
  EXPECT_EQ(fault({}), "which command? `ntrace --help` lists them");
}

TEST(usage, names_the_wrong_option_and_the_nearest_right_one) {
  EXPECT_EQ(fault({"up", "--workrs", "2"}), "unknown option --workrs; did you mean --workers?");
  EXPECT_EQ(fault({"runs", "--since", "2"}), "unknown option --since; did you mean --since-ms?");
  EXPECT_EQ(fault({"up", "--zzz"}),
            "unknown option --zzz; `ntrace up --help` lists those of ntrace up");
  EXPECT_EQ(fault({"push", "-x", "a", "b"}),
            "unknown option -x; `ntrace push --help` lists those of ntrace push");
  EXPECT_EQ(fault({"--json", "runs"}),
            "unknown option --json; options stand behind the command: `ntrace push --json`");
}

TEST(usage, says_what_an_option_takes) {
  EXPECT_EQ(fault({"runs", "--since-ms", "abc"}),
            "--since-ms takes a whole number of milliseconds, not abc");
  EXPECT_EQ(fault({"runs", "--since-ms=1.5"}),
            "--since-ms takes a whole number of milliseconds, not 1.5");
  EXPECT_EQ(fault({"runs", "--limit", "0"}), "--limit takes a whole number from 1 to 1000, not 0");
  EXPECT_EQ(fault({"runs", "--limit", "1000"}), "");
  EXPECT_EQ(fault({"runs", "--state", "runing"}),
            "--state takes queued, running or done, not runing; did you mean running?");
  EXPECT_EQ(fault({"runs", "--limit"}), "--limit needs a value: a whole number from 1 to 1000");
  EXPECT_EQ(fault({"runs", "--limit", "--json"}),
            "--limit needs a value: a whole number from 1 to 1000");
  EXPECT_EQ(fault({"runs", "--json=maybe"}), "--json takes true or false, or nothing, not maybe");
  EXPECT_EQ(fault({"push", "a", "b", "--key", "x", "-ky"}), "-k is given twice");
}

TEST(usage, names_words_that_are_missing_or_too_many) {
  EXPECT_EQ(fault({"push"}), "ntrace push needs OWNER (whose it is) and REPO");
  EXPECT_EQ(fault({"push", "o"}), "ntrace push needs REPO");
  EXPECT_EQ(fault({"push", "o", "r", "x"}), "one word too many: x; ntrace push takes OWNER REPO");
  EXPECT_EQ(fault({"runs", "x"}), "one word too many: x; ntrace runs takes options only");
  EXPECT_EQ(fault({"push", "--", "--o", "-r"}), "");
  EXPECT_EQ(fault({"push", "--help"}), "");
}

TEST(usage, lets_a_flag_that_is_a_setting_stand_alone_or_with_its_value) {
  using words = std::vector<std::string>;
  EXPECT_EQ(join_flag_values(program(), {"up", "--zone-allow-degraded", "true", "--workers", "2"}),
            (words{"up", "--zone-allow-degraded=true", "--workers", "2"}));
  EXPECT_EQ(join_flag_values(program(), {"up", "--zone-allow-degraded"}),
            (words{"up", "--zone-allow-degraded"}));
  EXPECT_EQ(join_flag_values(program(), {"runs", "--json", "true"}),
            (words{"runs", "--json", "true"}));
  EXPECT_EQ(join_flag_values(program(), {"up", "--", "--zone-allow-degraded", "true"}),
            (words{"up", "--", "--zone-allow-degraded", "true"}));
}

TEST(help_page, shows_rare_settings_only_when_they_are_asked_for) {
  const auto of = program();
  const auto& up = of.commands[2];
  EXPECT_EQ(help_page(up, false).find("--zone-allow-degraded"), std::string::npos);
  EXPECT_NE(help_page(up, false).find("--help-all shows 1 more settings"), std::string::npos);
  EXPECT_NE(help_page(up, true).find("--zone-allow-degraded       run all the same"),
            std::string::npos)
      << help_page(up, true);
}

TEST(help_page, fits_its_width) {
  auto of = program().commands[0];
  of.options[0].text = "word";
  for (int i = 0; i < 60; ++i) of.options[0].text += " and another word";
  const auto page = help_page(of, true, 60);
  std::size_t at = 0;
  while (at < page.size()) {
    const auto end = page.find('\n', at);
    EXPECT_LE(end - at, 60u) << page.substr(at, end - at);
    at = end + 1;
  }
}
