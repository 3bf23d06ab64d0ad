#pragma once
// The real program, started and ended by a test; and what is left of it on the machine.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "config/file.hpp"
#include "config/subprocess.hpp"
#include "net/rpc_client.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/free_port.hpp"
#include "tests/support/guardian.hpp"
#include "tests/support/leftovers.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/scratch.hpp"

namespace ntrace::test {

using nlohmann::json;

inline std::string program_path() {
  const char* path = std::getenv("NTRACE_PROGRAM");
  return path ? path : NTRACE_PROGRAM_DEFAULT;
}

/// Runs `ntrace words…` to its end.
inline subprocess_result run_ntrace(std::vector<std::string> words,
                                    milliseconds deadline = milliseconds{60'000},
                                    std::vector<std::string> env = {}) {
  subprocess_spec spec;
  spec.argv = {program_path()};
  spec.argv.insert(spec.argv.end(), words.begin(), words.end());
  spec.env = std::move(env);
  spec.deadline = deadline;
  spec.output_bytes_max = 64u << 20;
  return ok(run_subprocess(spec));
}

/// A server of ours in a folder of its own, on free ports.
class server {
public:
  explicit server(const scratch& dir, std::vector<std::string> words = {"up"},
                  std::vector<std::string> more = {})
      : out_{dir / "server.out"}, err_{dir / "server.err"} {
    subprocess_spec spec;
    spec.argv = {program_path()};
    spec.argv.insert(spec.argv.end(), words.begin(), words.end());
    spec.argv.insert(spec.argv.end(), {"--json", "--data", dir / "data", "--backoff-min-ms", "50",
                                       "--backoff-max-ms", "200"});
    const auto has = [&](const char* flag) {
      return std::find(more.begin(), more.end(), flag) != more.end();
    };
    // The runner dials the dispatcher by number, so a free port is chosen here.
    if (!has("--dispatcher"))
      spec.argv.insert(spec.argv.end(),
                       {"--dispatcher", "127.0.0.1:" + std::to_string(free_port())});
    if (!has("--runner"))
      spec.argv.insert(spec.argv.end(), {"--runner", "127.0.0.1:" + std::to_string(free_port())});
    spec.argv.insert(spec.argv.end(), more.begin(), more.end());
    const unique_fd out{::open(out_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)};
    const unique_fd err{::open(err_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)};
    const auto before = text(out_).size();
    pid_ = ok(spawn_guarded(spec, -1, out.get(), err.get()));
    eventually(
        milliseconds{20'000}, [&] { return text(out_).size() > before || ended(); },
        [&] { return text(err_); });
    const auto line = json::parse(text(out_).substr(before), nullptr, false);
    if (!line.is_object() || !line.value("ready", false))
      throw std::runtime_error("the server is not ready: " + text(out_) + text(err_));
    dispatcher = "127.0.0.1:" + std::to_string(line.value("dispatcher_port", 0));
    runner = "127.0.0.1:" + std::to_string(line.value("runner_port", 0));
  }
  ~server() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  server(const server&) = delete;
  server& operator=(const server&) = delete;

  std::string dispatcher, runner;
  int pid() const { return pid_; }
  std::string log() const { return text(err_); }
  /// Sends the signal and gives the exit code (128 + signal when one ended it).
  int stop(int signal = SIGTERM, milliseconds deadline = milliseconds{30'000}) {
    ::kill(pid_, signal);
    eventually(
        deadline, [&] { return ended(); }, [&] { return log(); });
    if (code_ != 0 && code_ != 128 + signal)
      std::cerr << "the server ended with " << code_ << ":\n" << log() << "\n";
    return code_;
  }
  result<json> call(const char* method, const json& args, bool to_runner = false) {
    auto client = net::rpc_client::connect(ok(parse_host_port(to_runner ? runner : dispatcher)));
    if (!client) return fail(client.error());
    return client->call(method, args, milliseconds{30'000});
  }
  /// The run's state once it is terminal.
  std::string wait_for_end(const std::string& run, milliseconds deadline = milliseconds{60'000}) {
    std::string state;
    eventually(
        deadline,
        [&] {
          const auto shown = call("show", json::array({run}));
          state = shown ? shown->value("state", "") : to_string(shown.error());
          return state == "done" || state == "failed" || state == "quarantined" ||
                 state == "cancelled";
        },
        [&] { return state + "\n" + log(); });
    return state;
  }

private:
  static std::string text(const std::string& path) { return read_file(path).value_or(""); }
  bool ended() {
    int status = 0;
    if (pid_ <= 0) return true;
    if (::waitpid(pid_, &status, WNOHANG) == 0) return false;
    code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    pid_ = -1;
    return true;
  }
  std::string out_, err_;
  int pid_ = -1, code_ = -1;
};

/// A package that spins for `ms` in a function of its own and ends with `code`.
inline std::string make_package(const scratch& dir, const std::string& name, int ms, int code = 0,
                                const std::string& script = "benchmark") {
  dir.file(
      name + "/package.json",
      json{{"name", name}, {"version", "1.0.0"}, {"scripts", {{script, "node spin.js"}}}}.dump());
  dir.file(name + "/spin.js",
           "function fibonacci(n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); "
           "}\nconst end = Date.now() + " +
               std::to_string(ms) +
               ";\nlet x = 0;\nwhile (Date.now() < end) x += fibonacci(20);\nconsole.log('NTRACE=' "
               "+ process.env.NTRACE, x > 0);\nconsole.error('to stderr');\nprocess.exit(" +
               std::to_string(code) + ");\n");
  return dir / name;
}

/// Why zones cannot be tried here; empty when they can. In CI that is a failure, not a skip.
inline std::string zones_missing() {
  static const std::string why = [] {
    // What the kernel lacks, it lacks each time; a machine full of other tests fails once.
    std::string seen;
    for (int tries = 0; tries < 3; ++tries) {
      const auto done = run_ntrace({"doctor", "runner", "--json"});
      const auto found = json::parse(done.out, nullptr, false);
      if (found.is_object() && found.value("can_run", false)) return std::string{};
      seen = done.out + done.err;
    }
    return "this machine cannot run zones: " + seen;
  }();
  return why;
}

}  // namespace ntrace::test

/// Skips the test by name with the reason where the kernel gives no zones; fails in CI.
#define NTRACE_NEEDS_ZONES()                                          \
  if (const auto why = ntrace::test::zones_missing(); !why.empty()) { \
    if (std::getenv("CI")) FAIL() << why;                             \
    GTEST_SKIP() << why;                                              \
  }
