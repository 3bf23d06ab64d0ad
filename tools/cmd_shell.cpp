// The remote shell: a person's view into a running process, over CAF.
#include <editline/readline.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <sstream>

#include "tools/command.hpp"
#include "tools/output.hpp"
#include "tools/serve.hpp"
#include "tools/shell_client.hpp"

namespace ntrace::tools {
namespace {

using words = std::vector<std::string>;

constexpr milliseconds watch_default{2'000}, watch_min{200};
constexpr int history_max = 1000;  // lines in the history file

struct shell_args {
  words positionals;
  shell_credentials own;
  bool as_json = false;
};

words split(const std::string& line) {
  std::istringstream in{line};
  words out;
  for (std::string word; in >> word;) out.push_back(word);
  return out;
}

class session {
public:
  session(shell_client& server, bool as_json) : server_{server}, as_json_{as_json} {}

  /// Runs one line; 0 or the exit code of its error.
  int run(words line) {
    if (line.empty()) return 0;
    const auto name = line.front();
    line.erase(line.begin());
    if (name == "help") return help(line);
    if (name == "watch") return watch(std::move(line));
    return call(name, line);
  }

  /// Words that a line may go on with, after the ones before.
  words completions(const words& before) {
    words out;
    if (before.empty() || before == words{"help"} || before == words{"watch"}) {
      for (const auto& c : commands()) out.push_back(c.value("name", ""));
      for (const char* own : {"help", "watch", "quit"}) out.emplace_back(own);
      return out;
    }
    const auto* known = find(before.front());
    const auto args = known ? known->value("args", "") : "";
    const auto from = [&](const char* command, const char* field) {
      const auto list = server_.call(command, {});
      if (!list) return;  // A shell that cannot complete is a shell all the same.
      for (const auto& one : *list)
        if (one.is_object()) out.push_back(one.value(field, ""));
    };
    if (before.front() == "inject" && before.size() == 1) return {"kill", "throw", "hang"};
    if (args.find("ACTOR") != std::string::npos) from("actors", "actor");
    if (args.find("RUN") != std::string::npos) from("runs", "run");
    if (args.find("UUID") != std::string::npos) from("workers", "uuid");
    return out;
  }

  void greet() const {
    const auto& h = server_.hello();
    std::cout << h.value("program", "") << ", "
              << (h.value("dispatcher", false) ? "dispatcher" : "")
              << (h.value("dispatcher", false) && h.value("runner", false) ? " and " : "")
              << (h.value("runner", false) ? "runner" : "") << "; you are "
              << (h.value("role", "") == "operator" ? "an operator" : "a viewer")
              << ". `help` lists the commands.\n";
  }

private:
  json commands() const { return server_.hello().value("commands", json::array()); }

  const json* find(const std::string& name) const {
    const auto& list = server_.hello().at("commands");
    const auto at = std::find_if(list.begin(), list.end(),
                                 [&](const json& c) { return c.value("name", "") == name; });
    return at == list.end() ? nullptr : &*at;
  }

  int help(const words& about) const {
    if (about.empty()) {
      std::vector<std::vector<std::string>> rows;
      for (const auto& c : commands())
        rows.push_back({(c.value("name", "") + " " + c.value("args", "")),
                        c.value("acts", false) ? "acts" : "", c.value("help", "")});
      rows.push_back({"watch [SECONDS] COMMAND…", "", "again and again, until ^C"});
      rows.push_back({"help [COMMAND] · quit", "", ""});
      std::cout << for_terminal(table(rows));
      return 0;
    }
    const auto* known = find(about.front());
    if (!known) return report({ec::not_found, "no command \"" + about.front() + "\"", {}});
    std::cout << for_terminal(fmt::format("{} {}\n  {}\n  for example: {}\n",
                                          known->value("name", ""), known->value("args", ""),
                                          known->value("help", ""), known->value("example", "")));
    return 0;
  }

  int watch(words line) {
    auto every = watch_default;
    if (!line.empty())
      if (const auto seconds = std::atof(line.front().c_str()); seconds > 0) {
        every = std::max(milliseconds{static_cast<std::int64_t>(seconds * 1000)}, watch_min);
        line.erase(line.begin());
      }
    if (line.empty()) return report({ec::bad_argument, "watch what? `watch 1 tree`", {}}, as_json_);
    const auto name = line.front();
    line.erase(line.begin());
    for (;;) {
      if (!as_json_ && ::isatty(STDOUT_FILENO)) checked_output::control("\033[H\033[2J");
      if (const int code = call(name, line); code != 0) return code;
      std::cout << std::flush;
      if (checked_output::is_gone() || wait_signal(every) != 0) return 0;
    }
  }

  int call(const std::string& name, const words& args) {
    const auto answer = server_.call(name, args);
    if (!answer) return report(answer.error(), as_json_);
    std::cout << (as_json_ ? answer->dump(-1, ' ', false, json::error_handler_t::replace) + "\n"
                           : show_answer(*answer));
    return 0;
  }

  shell_client& server_;
  bool as_json_;
};

/// libedit's callback has no argument that names the prompt.
session* completing = nullptr;

char* next_completion(const char* start, int state) {
  static words found;
  static std::size_t at = 0;
  if (state == 0) {
    const std::string line{rl_line_buffer, static_cast<std::size_t>(rl_point)};
    auto before = split(line);
    if (!before.empty() && !line.ends_with(' ')) before.pop_back();
    found = completing->completions(before);
    std::erase_if(found, [&](const std::string& w) { return !w.starts_with(start); });
    at = 0;
  }
  return at < found.size() ? ::strdup(found[at++].c_str()) : nullptr;
}

char** complete(const char* text, int, int) {
  rl_attempted_completion_over = 1;  // No file names.
  return rl_completion_matches(text, next_completion);
}

std::string history_file() {
  const char* state = std::getenv("XDG_STATE_HOME");
  const char* home = std::getenv("HOME");
  if (state && *state) return std::string{state} + "/ntrace_history";
  return home && *home ? std::string{home} + "/.ntrace_history" : "";
}

int converse(session& own) {
  own.greet();
  completing = &own;
  rl_attempted_completion_function = complete;
  rl_basic_word_break_characters = " ";
  using_history();
  stifle_history(history_max);
  const auto file = history_file();
  if (!file.empty()) read_history(file.c_str());
  while (char* line = readline("ntrace> ")) {
    const std::unique_ptr<char, decltype(&std::free)> owned{line, &std::free};
    auto typed = split(line);
    if (typed.empty()) continue;
    add_history(line);
    if (typed.front() == "quit" || typed.front() == "exit") break;
    own.run(std::move(typed));
    std::cout << std::flush;
  }
  if (!file.empty()) write_history(file.c_str());
  completing = nullptr;
  return 0;
}

/// A script: runs each line; the exit code is that of the first one that failed.
int read_script(session& own) {
  int code = 0;
  for (std::string line; std::getline(std::cin, line);) {
    auto typed = split(line);
    if (typed.empty() || typed.front().starts_with('#')) continue;
    if (typed.front() == "quit") break;
    const int ended = own.run(std::move(typed));
    if (code == 0) code = ended;
    std::cout << std::flush;
  }
  return code;
}

int shell(const shell_args& a) {
  block_signals();
  auto line = a.positionals;
  auto at = parse_host_port(shell_address).value();
  if (!line.empty() && line.front().find(':') != std::string::npos) {
    const auto read = parse_host_port(line.front());
    if (!read) return report(read.error(), a.as_json);
    at = *read;
    line.erase(line.begin());
  }
  auto server = shell_client::connect(at, a.own);
  if (!server) return report(server.error(), a.as_json);
  session own{**server, a.as_json};
  if (!line.empty()) return own.run(line);
  return ::isatty(STDIN_FILENO) ? converse(own) : read_script(own);
}

}  // namespace

void add_shell(cli::app app, outcome& out) {
  const auto sub = app.add_subcommand("shell", "Looks into a running process, and acts on it");
  auto a = std::make_shared<shell_args>();
  sub.add_option("ADDR-AND-COMMAND", a->positionals,
                 "HOST:PORT (" + std::string{shell_address} +
                     "), and a command; without one a prompt, or a script from stdin");
  sub.add_option("--cert", a->own.cert_file, "your certificate, PEM")
      .type_name("FILE")
      .envname("NTRACE_SHELL_CERT");
  sub.add_option("--key", a->own.key_file, "its private key, PEM")
      .type_name("FILE")
      .envname("NTRACE_SHELL_KEY");
  sub.add_option("--ca", a->own.ca_file, "the CA of servers' certificates, PEM")
      .type_name("FILE")
      .envname("NTRACE_SHELL_CA");
  sub.add_flag("--json", a->as_json, "print answers as JSON");
  sub.callback([&out, a] { out.run = [a] { return shell(*a); }; });
}

}  // namespace ntrace::tools
