// The program: parses the command line, and hands over to one file per group of subcommands.
#include <csignal>
#include <iostream>

#include "tools/command.hpp"

using namespace ntrace;
using namespace ntrace::tools;

int main(int argc, char** argv) {
  // A peer or pager that went away is an error of a write, not the end of the program.
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app{"Profiles each pushed commit in a clean zone and keeps its flame graph.", "ntrace"};
  app.set_version_flag("--version", program_version());
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::simple);
  outcome out;
  add_serve(app, out);
  add_profile(app, out);
  add_push(app, out);
  add_runs(app, out);
  add_flame(app, out);
  add_fleet(app, out);
  add_zone(app, out);
  add_engine(app, out);
  add_doctor(app, out);
  add_config(app, out);
  add_journal(app, out);
  add_bench(app, out);
  add_sim(app, out);
  add_tunnel(app, out);
  add_provision(app, out);
  add_shell(app, out);
  add_top(app, out);
  add_chaos(app, out);
  add_completion(app, out);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    return code == 0 ? 0 : 2;
  }
  try {
    return out.run ? out.run() : 2;
  } catch (const std::exception& e) {
    std::cerr << "ntrace: defect: " << e.what() << "; please report it\n";
    return 70;
  }
}
