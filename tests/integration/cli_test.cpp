// The command line as a newcomer meets it: wrong words, help, output that cannot be written, and
// what a job prints on a terminal.
#include <regex>
#include <sstream>
#include <thread>

#include "tests/support/at_terminal.hpp"
#include "tests/support/program_parts.hpp"
#include "tests/support/wire.hpp"

using namespace ntrace;
using namespace ntrace::test;
using namespace std::chrono_literals;

namespace {

/// The words of all commands: "journal check".
std::vector<std::string> all_commands(const std::string& of = "") {
  std::vector<std::string> out;
  std::istringstream lines{run_ntrace([&] {
                             std::vector<std::string> words;
                             std::istringstream in{of};
                             for (std::string word; in >> word;) words.push_back(word);
                             words.emplace_back("--help");
                             return words;
                           }())
                               .out};
  bool is_list = false;
  const std::regex entry{"  ([a-z][a-z-]*)( .*)?"};
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with(":"))
      is_list = line != "Options:" && line.find("ettings") == line.npos && line != "Arguments:";
    std::smatch found;
    if (!is_list || !std::regex_match(line, found, entry)) continue;
    const auto path = of.empty() ? found[1].str() : of + " " + found[1].str();
    out.push_back(path);
    for (auto& below : all_commands(path)) out.push_back(below);
  }
  return out;
}

/// The line behind `line` goes on with what the option is for.
bool is_followed_by_text(const std::string& page, const std::string& line) {
  const auto at = page.find(line + "\n");
  return at != page.npos && page.compare(at + line.size() + 1, 10, std::string(10, ' ')) == 0;
}

/// `ntrace words` by a shell, so that its output can be sent anywhere.
subprocess_result in_shell(const std::string& line) {
  subprocess_spec spec;
  spec.argv = {"bash", "-c", line, program_path()};
  spec.deadline = 60s;
  return ok(run_subprocess(spec));
}

/// A run whose job wrote `text` to its standard output and goes on; its id.
std::string run_with_output(server& to, wire& consumer, const std::string& text) {
  const auto run =
      ok(to.call("push", json::array({"o", "r", sha, {{"source", "dir:/tmp"}}})))["run"];
  consumer.ask("next", json::array(), 1);
  const auto job = consumer.reply()[0][1];
  consumer.ask("result",
               json::array({{{"id", "document"},
                             {"run_id", "mine"},
                             {"when", 1},
                             {"repo", "o/r"},
                             {"commit", sha},
                             {"stream", "stdout"},
                             {"data", text}}}),
               2);
  EXPECT_TRUE(consumer.reply()[0][0].is_null());
  return run.get<std::string>();
}

}  // namespace

TEST(cli, answers_wrong_words_by_naming_them) {
  const auto said = [](std::vector<std::string> words) {
    const auto done = run_ntrace(std::move(words));
    EXPECT_EQ(done.exit_code, 2) << done.out << done.err;
    EXPECT_EQ(done.out, "");
    return done.err;
  };
  EXPECT_EQ(said({"pusch"}), "ntrace: unknown command pusch; did you mean push?\n");
  EXPECT_EQ(said({"runs", "--since-ms", "abc"}),
            "ntrace: --since-ms takes a whole number of milliseconds, not abc\n");
  EXPECT_EQ(said({"up", "--workrs", "2"}),
            "ntrace: unknown option --workrs; did you mean --workers?\n");
  EXPECT_EQ(said({"journal", "chek"}),
            "ntrace: unknown command chek of ntrace journal; did you mean check?\n");
  EXPECT_EQ(said({"zone", "creat"}),
            "ntrace: unknown command creat of ntrace zone; did you mean create?\n");
  EXPECT_EQ(said({"show"}), "ntrace: ntrace show needs RUN (the run's id)\n");
  EXPECT_EQ(said({"tree", "me"}),
            "ntrace: one word too many: me; ntrace tree takes options only\n");
  EXPECT_EQ(said({"up", "--run-ms", "soon"}),
            "ntrace: bad_config: setting run_ms is \"soon\" (flag --run-ms): use a whole number of "
            "milliseconds\n");
  EXPECT_EQ(said({"push\x1b[2J\u202e"}),
            "ntrace: unknown command push\\x1b[2J\\u{202e}; `ntrace --help` lists the commands\n");
}

TEST(cli, takes_a_flag_that_is_a_setting_alone_and_with_its_value) {
  const auto value = [](std::vector<std::string> words) {
    words.insert(words.begin(), {"config", "--json"});
    return json::parse(run_ntrace(std::move(words)).out)["zone_allow_degraded"]["value"];
  };
  EXPECT_EQ(value({}), "false");
  EXPECT_EQ(value({"--zone-allow-degraded"}), "true");
  EXPECT_EQ(value({"--zone-allow-degraded", "true"}), "true");
  EXPECT_EQ(value({"--zone-allow-degraded", "false"}), "false");
  EXPECT_EQ(value({"--zone-allow-degraded=false"}), "false");
}

TEST(cli, has_help_for_each_command_that_fits_a_hundred_columns) {
  const auto commands = all_commands();
  EXPECT_GT(commands.size(), 45u);
  for (const auto& path : commands) {
    for (const std::string how : {" --help", " --help-all"}) {
      const auto done = in_shell("\"$0\" " + path + how);
      EXPECT_EQ(done.exit_code, 0) << path;
      std::istringstream lines{done.out};
      const std::regex timed{"  --[a-z-]*-ms,? .*"}, sized{"  --[a-z-]*-bytes .*"};
      for (std::string line; std::getline(lines, line);) {
        const auto width = std::count_if(line.begin(), line.end(), [](char c) {
          return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
        });
        EXPECT_LE(width, 100) << path << ": " << line;
        const bool has_unit =
            (!std::regex_match(line, timed) || line.find(" MS") != std::string::npos) &&
            (!std::regex_match(line, sized) || line.find(" BYTES") != std::string::npos);
        EXPECT_TRUE(has_unit) << path << ": " << line;
        // A type alone would leave open of what.
        EXPECT_FALSE(std::regex_match(
            line, std::regex{"  (-[a-z], ?)?--[a-z-]+ (TEXT|INT|UINT|FLOAT|NUMBER)( .*)?"}))
            << path << " says no unit or kind: " << line;
        // What N counts and which words there are, the text beside it has to say.
        EXPECT_FALSE(std::regex_match(line, std::regex{"  (-[a-z], ?)?--[a-z-]+ (N|WORD|LIST)"}) &&
                     !is_followed_by_text(done.out, line))
            << path << " says nothing of its option: " << line;
      }
      if (how == " --help") {
        EXPECT_LT(std::count(done.out.begin(), done.out.end(), '\n'), 45) << done.out;
      }
    }
  }
}

TEST(cli, says_when_its_output_cannot_be_written) {
  const scratch dir;
  server uut{dir, {"dispatcher"}};
  const auto run =
      ok(uut.call("push", json::array({"o", "r", sha, {{"source", "dir:/tmp"}}})))["run"]
          .get<std::string>();
  const auto folded = dir.file("x.folded", "a;b 1\n");
  ASSERT_EQ(run_ntrace({"zone", "list", "--data", dir / "data"}).exit_code, 0);
  const auto at = " --dispatcher " + uut.dispatcher;
  for (const std::string& words : std::vector<std::string>{
           "runs" + at, "runs --all" + at, "runs --json" + at, "show " + run + at,
           "why " + run + at, "tree" + at, "top --once" + at, "cancel " + run + at, "config",
           "--help", "push --help", "--version", "graph " + folded, "fold " + folded,
           "graph --format text " + folded, "journal check --data " + (dir / "data"),
           "zone list --data " + (dir / "data"), "sim --runs 1"}) {
    const auto done = in_shell("\"$0\" " + words + " > /dev/full");
    EXPECT_NE(done.exit_code, 0) << words;
    EXPECT_NE(done.err.find("write standard output: No space left on device"), std::string::npos)
        << words << ": " << done.err;
    EXPECT_NE(in_shell("\"$0\" " + words + " >&-").exit_code, 0) << words << " with none at all";
  }
  // A file that is named is no other case.
  EXPECT_EQ(in_shell("\"$0\" graph " + folded + " -o /dev/full").exit_code, 4);
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/full")) << "it is not replaced";
  EXPECT_NE(in_shell("\"$0\" graph " + folded + " -o /dev/stdout").out.find("<svg"),
            std::string::npos);
}

TEST(cli, is_silent_when_its_reader_has_enough) {
  const scratch dir;
  std::string stacks;
  for (int i = 0; i < 20'000; ++i) stacks += "main;f" + std::to_string(i) + " 1\n";
  const auto folded = dir.file("x.folded", stacks);
  const auto done = in_shell("\"$0\" graph --format folded " + folded +
                             " | head -c 10 >/dev/null; echo ${PIPESTATUS[0]}");
  EXPECT_EQ(done.out, "141\n");
  EXPECT_EQ(done.err, "");
}

TEST(cli, names_who_has_a_port_in_one_line) {
  const scratch dir;
  server other{dir, {"dispatcher"}};
  const auto done =
      run_ntrace({"dispatcher", "--data", dir / "data2", "--dispatcher", other.dispatcher});
  EXPECT_EQ(done.exit_code, 2) << done.err;
  EXPECT_EQ(std::count(done.err.begin(), done.err.end(), '\n'), 1) << done.err;
  EXPECT_NE(done.err.find("setting dispatcher is " + other.dispatcher + " (flag --dispatcher)"),
            std::string::npos)
      << done.err;
  EXPECT_NE(done.err.find("process " + std::to_string(other.pid()) + " (ntrace)"),
            std::string::npos)
      << done.err;
  const auto same = run_ntrace({"dispatcher", "--data", dir / "data2", "--dispatcher",
                                "127.0.0.1:1999", "--webhook", "127.0.0.1:1999"});
  EXPECT_NE(same.err.find("so is the setting dispatcher"), std::string::npos) << same.err;
}

TEST(logs, of_a_job_colour_a_terminal_and_do_nothing_else_to_it) {
  const scratch dir;
  server uut{dir, {"dispatcher"}};
  const std::string words =
      "\x1b[32mgreen\x1b[0m 10%\r20%\r\n\xc2\x9b"
      "2J\u202eabc\x1b]0;t\x07 end\n";
  wire consumer{uut.dispatcher};
  const auto run = run_with_output(uut, consumer, words);

  at_terminal shown{{"logs", run, "--stream", "stdout", "--dispatcher", uut.dispatcher}};
  EXPECT_TRUE(shown.shows("end"));
  EXPECT_EQ(shown.end(), 0);

  EXPECT_NE(shown.seen().find("\x1b[32mgreen\x1b[0m 10%\r\n20%\r\n"), std::string::npos)
      << shown.seen();
  EXPECT_NE(shown.seen().find("\\u{9b}2J\\u{202e}abc\\x1b]0;t\\x07 end"), std::string::npos)
      << shown.seen();
  EXPECT_EQ(run_ntrace({"logs", run, "--stream", "stdout", "--dispatcher", uut.dispatcher}).out,
            words)
      << "elsewhere the bytes are as they are";
}

TEST(readme_tour, works_when_it_is_pasted) {
  NTRACE_NEEDS_ZONES();
  if (::geteuid() != 0) GTEST_SKIP() << "root gives the tour a network of its own";
  for (const std::string user : {"", "--as-nobody "}) {
    subprocess_spec spec;
    spec.argv = {"bash", "-c", NTRACE_TESTS "/../tools/tour " + user + "\"$0\" 2>&1",
                 program_path()};
    spec.deadline = 150s;
    spec.output_bytes_max = 8u << 20;
    const auto done = ok(run_subprocess(spec));
    EXPECT_EQ(done.exit_code, 0) << user << done.out;
    for (const char* what :
         {"this machine can run up", "renderRow benchmark.js", "opened ntrace-mandelbrot/flame.svg",
          "ready dispatcher=127.0.0.1:9181", "checksum", "me/mandelbrot", "latency   push",
          "push → script started", "dispatcher_sup", "WORKER", "ntrace top", "[[null,{", " done",
          "samples", "the tour is over"})
      EXPECT_NE(done.out.find(what), std::string::npos) << user << what << "\n" << done.out;
    EXPECT_EQ(done.out.find("NO FLAME GRAPH"), std::string::npos) << user << done.out;
  }
}
