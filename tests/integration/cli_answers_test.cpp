// What the commands say of runs and of the journal.
#include <regex>
#include <thread>

#include "tests/support/program_parts.hpp"
#include "tests/support/wire.hpp"

using namespace ntrace;
using namespace ntrace::test;
using namespace std::chrono_literals;

TEST(runs, are_paged_through_while_new_ones_come_in) {
  const scratch dir;
  server uut{dir, {"dispatcher"}};
  const auto push = [&] {
    return ok(uut.call("push", json::array({"o", "r", sha, {{"source", "dir:/tmp"}}})))["run"]
        .get<std::string>();
  };
  std::vector<std::string> pushed, seen;
  for (int i = 0; i < 7; ++i) pushed.push_back(push());
  const auto page = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"runs", "--json", "--limit", "3", "--dispatcher", uut.dispatcher});
    return json::parse(run_ntrace(std::move(words)).out);
  };

  auto got = page({});
  while (!got.empty()) {
    for (const auto& r : got) seen.push_back(r["run"]);
    push();
    got = page({"--before", seen.back()});
  }

  std::reverse(pushed.begin(), pushed.end());
  EXPECT_EQ(seen, pushed) << "no run twice, none left out";
  const auto newer = page({"--after", pushed.front()});
  ASSERT_EQ(newer.size(), 3u);
  EXPECT_GT(newer[0]["run"], newer[2]["run"]) << "the newest first here, too";
  const auto all =
      json::parse(run_ntrace({"runs", "--all", "--json", "--dispatcher", uut.dispatcher}).out);
  EXPECT_EQ(all.size(), 10u);
  const auto text = run_ntrace({"runs", "--limit", "3", "--dispatcher", uut.dispatcher}).out;
  EXPECT_NE(text.find("older ones: ntrace runs --before " + all[2]["run"].get<std::string>()),
            std::string::npos)
      << text;
  EXPECT_EQ(run_ntrace({"runs", "--before", "x", "--dispatcher", uut.dispatcher}).exit_code, 4);
}

namespace {

/// The lines of `ntrace words`.
std::vector<std::string> lines_of(std::vector<std::string> words) {
  std::istringstream in{run_ntrace(std::move(words)).out};
  std::vector<std::string> out;
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

}  // namespace

TEST(show, says_each_fact_of_a_run_once_and_in_order) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto package = make_package(dir, "work", 50);
  server uut{dir};
  const auto done = run_ntrace({"push", "o", "r", sha, "--source", package, "--wait", "--json",
                                "--dispatcher", uut.dispatcher});
  ASSERT_EQ(done.exit_code, 0) << done.out << done.err;
  const auto run = json::parse(done.out)["run"].get<std::string>();

  const auto lines = lines_of({"show", run, "--dispatcher", uut.dispatcher});
  const std::vector<std::string> heads{"run       " + run, "commit    o/r " + sha,
                                       "source    " + package, "state     done", "pushed    "};
  ASSERT_GT(lines.size(), heads.size());
  for (std::size_t i = 0; i < heads.size(); ++i)
    EXPECT_TRUE(lines[i].starts_with(heads[i])) << lines[i];
  std::string all;
  for (const auto& line : lines) {
    all += line + "\n";
    EXPECT_FALSE(line.ends_with(' ') || line.ends_with(';') || line.ends_with(',')) << line;
  }
  const auto at = [&](const char* words) { return all.find(words); };
  EXPECT_LT(at("  steps   rollback "), at(", fetch ")) << all;
  EXPECT_LT(at(", fetch "), at(", unpack ")) << all;
  EXPECT_LT(at(", unpack "), at(", run ")) << all;
  EXPECT_EQ(all.find("passed, passed"), all.npos) << all;
  EXPECT_NE(at("proved clean"), all.npos) << all;
}

TEST(show, names_a_failed_verdict_once) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  dir.file("work/package.json",
           R"({"name":"work","version":"1.0.0","scripts":{"benchmark":"exit 3"}})");
  server uut{dir};
  const auto done = run_ntrace({"push", "o", "r", sha, "--source", dir / "work", "--wait", "--json",
                                "--dispatcher", uut.dispatcher});
  EXPECT_EQ(done.exit_code, 1) << done.out << done.err;
  const auto run = json::parse(done.out)["run"].get<std::string>();
  std::string attempt;
  for (const auto& line : lines_of({"show", run, "--dispatcher", uut.dispatcher}))
    if (line.starts_with("attempt ")) attempt = line;
  const auto first = attempt.find("script_failed");
  ASSERT_NE(first, attempt.npos) << attempt;
  EXPECT_EQ(attempt.find("script_failed", first + 1), attempt.npos) << attempt;
}

TEST(why, says_something_of_each_event) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto package = make_package(dir, "work", 50);
  server uut{dir};
  const auto run = ok(uut.call("push", json::array({"o", "r", sha, {{"source", package}}})))["run"]
                       .get<std::string>();
  ASSERT_EQ(uut.wait_for_end(run), "done");
  std::size_t column = 0, events = 0;
  for (const auto& line : lines_of({"why", run, "--dispatcher", uut.dispatcher})) {
    if (line.starts_with("AFTER ")) {
      column = line.find("WHAT");
    } else if (column != 0) {
      ++events;
      ASSERT_GT(line.size(), column) << line;
      EXPECT_NE(line[column], ' ') << line;
    }
  }
  EXPECT_GT(events, 5u);
}

TEST(journal, is_compacted_beside_a_dispatcher_in_words_that_say_what_is_counted) {
  const scratch dir;
  server uut{dir, {"dispatcher"}};
  for (int i = 0; i < 50; ++i)
    ok(uut.call("push", json::array({"o", "r", sha, {{"source", "dir:/tmp"}}})));
  const auto file = dir / "data/journal.sqlite";
  const auto done = run_ntrace({"journal", "compact", file});
  ASSERT_EQ(done.exit_code, 0) << done.err;
  std::smatch bytes;
  ASSERT_TRUE(std::regex_match(
      done.out, bytes,
      std::regex{
          ".*journal\\.sqlite with its log had ([0-9]+) bytes on the disk and has ([0-9]+)\n"}))
      << done.out;
  EXPECT_LE(std::stoull(bytes[2]), std::stoull(bytes[1])) << "compacting never makes it larger";
  const auto again = json::parse(run_ntrace({"journal", "compact", file, "--json"}).out);
  EXPECT_EQ(again["journal"], file);
  EXPECT_LE(again["bytes_after"], again["bytes_before"]);
}

TEST(push, refuses_what_is_no_source_before_it_asks_anybody) {
  for (const auto* bad : {"dir:/tmp", "git://h/x#1", "https://h/x", "git+"}) {
    const auto said = run_ntrace({"push", "o", "r", sha, "--source", bad});
    EXPECT_EQ(said.exit_code, 2) << bad << said.err;
    EXPECT_NE(said.err.find("is not a source"), std::string::npos) << said.err;
  }
}

TEST(push, that_requires_a_profile_tells_by_its_code_when_there_is_none) {
  const scratch dir;
  server uut{dir, {"dispatcher"}};
  // A runner whose attempts pass and have no flame graph.
  wire runner{uut.dispatcher};
  int id = 0;
  const auto call = [&](const std::string& name, const json& args) {
    runner.ask(name, json::array({args}), ++id);
    json said = runner.reply();
    while (said.is_array() && said[1] != id) said = runner.reply();
    EXPECT_TRUE(said.is_array() && said[0][0].is_null()) << name << ": " << said;
  };
  call("hello", {{"version", 1}, {"name", "w"}, {"workers", 20}, {"free", 20}});
  const auto code_of_push = [&](std::vector<std::string> more) {
    std::vector<std::string> words{"push",         "o",        "r",   sha, "--wait", "--dispatcher",
                                   uut.dispatcher, "--source", "/tmp"};
    words.insert(words.end(), more.begin(), more.end());
    subprocess_result done;
    std::thread pushing{[&] { done = run_ntrace(words, 30s); }};
    json said = runner.reply();
    while (said.is_array() && said[0] != "offer") said = runner.reply();
    const auto token = said.is_array() ? said[1][0]["token"] : json(0);
    call("accept", {{"token", token}});
    call("started", {{"token", token}, {"zone", "z"}});
    call("finish", {{"token", token},
                    {"verdict", "passed"},
                    {"reason", ""},
                    {"receipt", {{"profile_failed", "no sample came"}}},
                    {"last_seq", 0}});
    pushing.join();
    EXPECT_NE(done.out.find("NO FLAME GRAPH: no sample came"), done.out.npos)
        << done.out << done.err;
    return done.exit_code;
  };
  EXPECT_EQ(code_of_push({"--require-profile"}), 5);
  EXPECT_EQ(code_of_push({}), 0);
  EXPECT_EQ(code_of_push({"--no-require-profile"}), 0);
}
