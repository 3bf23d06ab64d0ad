// The program: parses the command line, and hands over to one file per group of subcommands.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <iostream>

#include "tools/command.hpp"
#include "tools/command_tree.hpp"
#include "tools/help_page.hpp"
#include "tools/output.hpp"
#include "tools/usage.hpp"

using namespace ntrace;
using namespace ntrace::tools;

namespace {

/// In the order of --help.
void add_commands(CLI::App& root, outcome& out) {
  const cli::app app{root};
  add_doctor(app, out);
  add_profile(app, out);
  add_serve(app, out);
  add_push(app, out);
  add_runs(app, out);
  add_flame(app, out);
  add_top(app, out);
  add_fleet(app, out);
  add_shell(app, out);
  add_tunnel(app, out);
  add_provision(app, out);
  add_zone(app, out);
  add_journal(app, out);
  add_config(app, out);
  add_engine(app, out);
  add_sim(app, out);
  add_chaos(app, out);
  add_bench(app, out);
  add_completion(app, out);
  const std::pair<const char*, std::vector<const char*>> groups[] = {
      {"Start here", {"doctor", "profile", "up"}},
      {"Runs", {"push", "runs", "show", "logs", "why", "cancel", "requeue", "flame"}},
      {"Servers and runners",
       {"dispatcher", "runner", "top", "tree", "workers", "enroll", "expel", "drain", "resume",
        "shell", "tunnel", "provision"}},
      {"This machine", {"zone", "journal", "config", "fold", "graph"}},
      {"Trials of ntrace itself", {"sim", "chaos", "bench"}}};
  for (const auto& [group, commands] : groups)
    for (const auto* name : commands) root.get_subcommand(name)->group(group);
}

/// The help of the command that the words name.
int print_help(const CLI::App& app, const command& program, bool with_rare) {
  const auto* at = &program;
  for (const auto* parsed = &app; !parsed->get_subcommands().empty();) {
    parsed = parsed->get_subcommands().front();
    for (const auto& one : at->commands)
      if (one.name() == parsed->get_name()) {
        at = &one;
        break;
      }
  }
  const auto width = terminal_width();
  std::cout << help_page(*at, with_rare,
                         width == 0 ? 100 : std::clamp<std::size_t>(width, 60, 100));
  return 0;
}

int run_program(std::vector<std::string> words) {
  CLI::App app{"Profiles each pushed commit in a clean zone and keeps its flame graph.", "ntrace"};
  app.set_help_flag("-h,--help", "what the command does and takes");
  app.set_help_all_flag("--help-all", "the same with all settings");
  app.set_version_flag("--version", program_version(), "version and commit");
  app.require_subcommand(1);
  outcome out;
  add_commands(app, out);
  const auto program = read_command(app);
  if (!words.empty() && words.front() == "help") {
    words.erase(words.begin());
    words.emplace_back("--help");
  }
  words = join_flag_values(program, std::move(words));
  try {
    auto reversed = words;
    std::reverse(reversed.begin(), reversed.end());
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    return print_help(app, program, false);
  } catch (const CLI::CallForAllHelp&) {
    return print_help(app, program, true);
  } catch (const CLI::CallForVersion&) {
    std::cout << program_version() << "\n";
    return 0;
  } catch (const CLI::ParseError& e) {
    std::cerr << "ntrace: " << for_terminal(find_fault(program, words).value_or(e.what())) << "\n";
    return 2;
  }
  try {
    return out.run ? out.run() : 2;
  } catch (const std::exception& e) {
    std::cerr << "ntrace: defect: " << e.what() << "; please report it\n";
    return 70;
  }
}

}  // namespace

int main(int argc, char** argv) {
  // If a peer or pager goes away, the write fails; the program does not end.
  std::signal(SIGPIPE, SIG_IGN);
  checked_output output;
  return output.finish(run_program({argv + std::min(argc, 1), argv + argc}));
}
