// What the remote shell answers, and to whom.
#include "actors/shell/shell_commands.hpp"

#include <gtest/gtest.h>

using namespace ntrace;
using namespace ntrace::shell;
using nlohmann::json;

namespace {

/// A process that notes what it is asked.
class shell_commands : public ::testing::Test {
protected:
  faces process() {
    faces out;
    const auto note = [this](const char* whom) {
      return [this, whom](std::string_view method, const json& args) -> result<json> {
        asked.push_back(std::string{whom} + "." + std::string{method} + args.dump());
        return json{{"leases", {{{"run", "R"}}}}, {"gauges", {{"a", 1}}}};
      };
    };
    out.dispatcher = note("dispatcher");
    out.runner = note("runner");
    out.tree = [] {
      return json{{"strategy", "one_for_one"},
                  {"budget_left", 3},
                  {"children",
                   {{{"id", "sup"},
                     {"restarts", 1},
                     {"tree", {{"budget_left", 2}, {"children", {{{"id", "leaf"}}}}}}}}}};
    };
    out.child = [this](std::string_view verb, const std::string& path) -> result<void> {
      asked.push_back(std::string{verb} + " " + path);
      return {};
    };
    out.audit = [this](const json& entry) -> result<void> {
      asked.push_back("audit " + entry["command"].get<std::string>() + " by " +
                      entry["by"].get<std::string>());
      return audit_problem.code == ec::none ? result<void>{} : fail(audit_problem);
    };
    out.may_inject = may_inject;
    out.program = "ntrace 1";
    return out;
  }
  json say(role of, const std::string& command, const std::vector<std::string>& args = {}) {
    asked.clear();
    return commands{process(), of}.answer(
        json{{"versions", {1}}, {"command", command}, {"args", args}, {"by", "me"}}.dump());
  }
  std::string code(role of, const std::string& command, const std::vector<std::string>& args = {}) {
    return say(of, command, args).value("error", json::object()).value("code", "");
  }

  std::vector<std::string> asked;
  error audit_problem{};
  bool may_inject = false;
};

}  // namespace

TEST_F(shell_commands, say_hello_with_what_the_role_may_do) {
  const auto viewer = say(role::viewer, "hello")["value"];
  const auto all = say(role::operator_, "hello")["value"];
  EXPECT_EQ(viewer["role"], "viewer");
  EXPECT_EQ(all["role"], "operator");
  EXPECT_TRUE(viewer["dispatcher"]);
  for (const auto& c : viewer["commands"]) EXPECT_FALSE(c["acts"]) << c;
  EXPECT_GT(all["commands"].size(), viewer["commands"].size());
  for (const auto& c : all["commands"]) {
    EXPECT_FALSE(c["help"].get<std::string>().empty()) << c;
    EXPECT_TRUE(c["example"].get<std::string>().starts_with(c["name"].get<std::string>())) << c;
  }
}

TEST_F(shell_commands, let_a_viewer_do_nothing_that_acts) {
  const auto hello = say(role::operator_, "hello");
  for (const auto& c : hello["value"]["commands"]) {
    if (!c["acts"]) continue;
    const std::string name = c["name"];
    const auto words = c["args"].get<std::string>();
    std::vector<std::string> args;
    if (name == "inject")
      args = {"kill", "a"};
    else if (!words.empty())
      args = {"a"};
    EXPECT_EQ(code(role::viewer, name, args), "forbidden") << name;
    EXPECT_TRUE(asked.empty()) << name << ": " << asked.front();
  }
}

TEST_F(shell_commands, note_an_act_before_it_is_done) {
  EXPECT_EQ(code(role::operator_, "restart", {"sup/leaf"}), "");
  EXPECT_EQ(asked, (std::vector<std::string>{"audit restart by me", "restart sup/leaf"}));
  audit_problem = {ec::io, "disk full", {}};
  EXPECT_EQ(code(role::operator_, "restart", {"sup/leaf"}), "io");
  EXPECT_EQ(asked.size(), 1u) << "what cannot be noted is not done";
}

TEST_F(shell_commands, inject_faults_only_where_the_configuration_allows_it) {
  EXPECT_EQ(code(role::operator_, "inject", {"kill", "sup"}), "forbidden");
  may_inject = true;
  EXPECT_EQ(code(role::operator_, "inject", {"kill", "sup"}), "");
  EXPECT_EQ(asked.back(), "kill sup");
  EXPECT_EQ(code(role::operator_, "inject", {"stop", "sup"}), "bad_argument");
}

TEST_F(shell_commands, list_each_actor_by_its_path) {
  const auto rows = say(role::viewer, "actors")["value"];
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0]["actor"], "sup");
  EXPECT_EQ(rows[0]["budget_left"], 2);
  EXPECT_EQ(rows[1]["actor"], "sup/leaf");
}

TEST_F(shell_commands, ask_the_role_that_knows) {
  EXPECT_EQ(say(role::viewer, "why", {"R"}).contains("value"), true);
  EXPECT_EQ(asked.back(), R"(dispatcher.why["R"])");
  EXPECT_EQ(say(role::viewer, "leases")["value"], json::parse(R"([{"run":"R"}])"));
  say(role::viewer, "workers");
  EXPECT_EQ(asked.back(), "runner.workers[]");
  say(role::operator_, "expel", {"U", "abort"});
  EXPECT_EQ(asked.back(), R"(runner.expel["U",{"abort":true}])");
  EXPECT_FALSE(say(role::viewer, "status")["value"]["runner"].contains("gauges"));
}

TEST_F(shell_commands, trace_a_run_through_all_that_have_something_of_it) {
  const auto seen = say(role::viewer, "trace", {"R"})["value"];
  EXPECT_EQ(asked, (std::vector<std::string>{R"(dispatcher.why["R"])", "dispatcher.status[]",
                                             "runner.status[]", "runner.workers[]"}));
  EXPECT_EQ(seen["lease"], json({{"run", "R"}}));
  EXPECT_TRUE(seen["attempt"].is_null()) << "it has none";
  EXPECT_TRUE(seen.contains("journal"));
}

TEST_F(shell_commands, say_so_when_the_process_has_not_the_role) {
  auto without = process();
  without.dispatcher = {};
  const auto answer =
      commands{without, role::viewer}.answer(R"({"versions":[1],"command":"runs","args":[]})");
  EXPECT_EQ(answer["error"]["code"], "invalid_state");
}

TEST_F(shell_commands, refuse_what_they_do_not_understand) {
  EXPECT_EQ(code(role::viewer, "nonsense"), "no_such_method");
  EXPECT_EQ(code(role::viewer, "why"), "bad_argument");
  EXPECT_EQ(code(role::viewer, "tree", {"x"}), "bad_argument");
  const commands uut{process(), role::operator_};
  for (const char* bad :
       {"", "[]", "1", "null", "{", R"({"command":"tree"})", R"({"versions":[2],"command":"tree"})",
        R"({"versions":1,"command":"tree"})", R"({"versions":[1],"command":1})",
        R"({"versions":[1],"command":"why","args":"R"})",
        R"({"versions":[1],"command":"why","args":[1]})"})
    EXPECT_EQ(uut.answer(bad)["error"]["code"], "bad_argument") << bad;
  // A newer shell names what it speaks besides, and sends what we do not know.
  EXPECT_TRUE(uut.answer(R"({"versions":[9,1],"command":"tree","new":{}})").contains("value"));
}
