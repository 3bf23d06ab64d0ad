#pragma once
// What the tests of the program share beside program.hpp.
#include <gtest/gtest.h>

#include "tests/support/program.hpp"

namespace ntrace::test {

using namespace std::chrono_literals;

inline const std::string sha(40, 'a');

inline std::string node_modules() {
  const std::string folder = NTRACE_NODE_MODULES;
  return std::filesystem::exists(folder) ? folder : "";
}

inline subprocess_result node(const std::string& script, std::vector<std::string> words,
                              milliseconds deadline = 60s) {
  subprocess_spec spec;
  spec.argv = {"node", std::string{NTRACE_TESTS "/integration/"} + script};
  spec.argv.insert(spec.argv.end(), words.begin(), words.end());
  spec.env = {"NODE_PATH=" + node_modules()};
  spec.deadline = deadline;
  return ok(run_subprocess(spec));
}

inline void shell(const std::string& script) {
  subprocess_spec spec;
  spec.argv = {"sh", "-ec", script};
  const auto done = ok(run_subprocess(spec));
  ASSERT_TRUE(done.ok()) << script << "\n" << done.err;
}

inline std::vector<std::string> in(const scratch& dir, std::vector<std::string> words) {
  words.insert(words.end(),
               {"--data", dir / "data", "--backoff-min-ms", "50", "--backoff-max-ms", "200"});
  return words;
}

/// Commits `folder` to a bare repository at `mirror`; the commit's id.
inline std::string make_mirror(const std::string& folder, const std::string& mirror) {
  shell("cd " + folder +
        " && git init -q -b main . && git add -Af && git -c user.name=t -c user.email=t@t commit "
        "-qm one && git clone -q --bare . " +
        mirror);
  subprocess_spec rev;
  rev.argv = {"git", "-C", folder, "rev-parse", "HEAD"};
  return ok(run_subprocess(rev)).out.substr(0, 40);
}

}  // namespace ntrace::test
