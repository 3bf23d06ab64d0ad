// What a job finds in its folder and its environment, and what its run is told of its source.
#include "tests/support/program_parts.hpp"

using namespace ntrace;
using namespace std::chrono_literals;
using nlohmann::json;
using test::in;
using test::ok;
using test::run_ntrace;
using test::scratch;

namespace {

/// Profiles the folder `name` of `dir`; what the script wrote.
std::string output_of(const scratch& dir, const std::string& name,
                      std::vector<std::string> more = {}) {
  std::vector<std::string> words{"profile", dir / name, "-o", dir / "out"};
  words.insert(words.end(), more.begin(), more.end());
  const auto done = run_ntrace(in(dir, words), 120s);
  EXPECT_EQ(done.exit_code, 0) << done.out << done.err;
  return ok(read_file(dir / "out/output.log"));
}

}  // namespace

TEST(job_folder, holds_nothing_of_ours_while_node_programs_and_their_threads_run) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  dir.file("tidy/package.json", json{{"name", "tidy"},
                                     {"version", "1.0.0"},
                                     {"scripts", {{"benchmark", "ls -A; node look.js"}}}}
                                    .dump());
  dir.file("tidy/look.js",
           "const {readdirSync} = require('fs'), {Worker} = require('worker_threads');\n"
           "const look = who => console.log(who, readdirSync('.').sort().join(' '));\n"
           "look('main');\n"
           "const worker = new Worker(`require('worker_threads').parentPort.postMessage(\n"
           "  require('fs').readdirSync('.').sort().join(' '))`, {eval: true});\n"
           "worker.on('message', seen => { console.log('thread', seen);\n"
           "  require('child_process').execFileSync(process.execPath, ['-e',\n"
           "    'console.log(\"child\", fs.readdirSync(\".\").sort().join(\" \"))'],\n"
           "    {stdio: 'inherit'});\n"
           "  look('after'); });\n");
  const std::string both = "look.js package.json\n";
  EXPECT_EQ(output_of(dir, "tidy"), "look.js\npackage.json\nmain " + both + "thread " + both +
                                        "child " + both + "after " + both);
}

TEST(job_folder, keeps_the_log_that_a_programs_own_flags_ask_for) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  dir.file("logs/package.json",
           json{{"name", "logs"},
                {"version", "1.0.0"},
                {"scripts", {{"benchmark", "node --prof -e 1; ls -A | grep -c v8.log"}}}}
               .dump());
  EXPECT_EQ(output_of(dir, "logs"), "1\n");
}

TEST(job_environment, says_that_nobody_watches) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  dir.file(
      "env/package.json",
      json{{"name", "env"}, {"version", "1.0.0"}, {"scripts", {{"benchmark", "echo $CI $NTRACE"}}}}
          .dump());
  EXPECT_EQ(output_of(dir, "env"), "true true\n");
}
