#pragma once
// What the subcommands share: settings from flags, one RPC, errors and exit codes, plain tables.
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "config/settings.hpp"
#include "net/rpc_client.hpp"
#include "tools/cli.hpp"
#include "tools/text.hpp"

namespace ntrace::tools {

using nlohmann::json;

/// Where a subcommand leaves its exit code; it runs after the command line is parsed.
struct outcome {
  std::function<int()> run;
};

// One function per file; each adds its subcommands to the program.
void add_serve(cli::app app, outcome& out);
void add_push(cli::app app, outcome& out);
void add_runs(cli::app app, outcome& out);
void add_flame(cli::app app, outcome& out);
void add_engine(cli::app app, outcome& out);
void add_fleet(cli::app app, outcome& out);
void add_zone(cli::app app, outcome& out);
void add_profile(cli::app app, outcome& out);
void add_doctor(cli::app app, outcome& out);
void add_config(cli::app app, outcome& out);
void add_journal(cli::app app, outcome& out);
void add_bench(cli::app app, outcome& out);
void add_sim(cli::app app, outcome& out);
void add_tunnel(cli::app app, outcome& out);
void add_provision(cli::app app, outcome& out);
void add_shell(cli::app app, outcome& out);
void add_top(cli::app app, outcome& out);
void add_chaos(cli::app app, outcome& out);
void add_completion(cli::app app, outcome& out);

/// The settings as flags of one subcommand.
class setting_flags {
public:
  /// Adds --config and a flag for each key; --help shows those of `common`, --help-all the others.
  explicit setting_flags(cli::app sub, const std::vector<setting_key>& common = {"data"});
  /// Defaults < file < environment < flags; the data folder is filled in.
  result<settings> load() const;

private:
  std::string file_;
  std::map<std::string, std::string> values_;
  cli::app sub_;
};

/// Prints the error to stderr (or as JSON to stdout) and gives its exit code.
int report(const error& e, bool as_json = false);

/// --dispatcher or --runner with its default and environment variable, and --json.
struct server_flags {
  std::string at;
  bool as_json = false;
  std::string name;
  void add(cli::app sub, text_setting server);
  /// Without --json: the second server of a command.
  void add_address(cli::app sub, text_setting server);
  result<net::rpc_client> connect() const;
  /// Connects, calls, gives the answer.
  result<json> call(std::string_view method, const json& args,
                    milliseconds deadline = milliseconds{30'000}) const;
  /// Prints an answer as JSON or by `print`, or the error; the exit code.
  int print(const result<json>& answer, const std::function<void(const json&)>& print) const;
};

/// "ntrace VERSION (COMMIT)".
const char* program_version();
/// A supervision tree as a table: see supervision/tree.hpp.
std::string show_tree(const json& root);
/// The exit code of a run: 0 passed, else by the reason's code ("code: message").
int run_exit_code(const std::string& state, const std::string& reason);
/// Why a run whose script ran has no flame graph, from the receipt of its last attempt; else empty.
std::string no_profile(const json& receipt);
/// --require-profile and --no-require-profile; what `value` is stays without them.
void add_require_profile(cli::app sub, bool& value);
/// `code`, or where that is 0 and a required profile is missing the exit code of profile_failed.
int with_profile(int code, const std::string& missing, bool is_required);
/// The data of a chunk from `logs`; what cannot be unpacked gives an error text.
std::string chunk_text(const json& chunk);
/// Columns of the terminal, or 0 when stdout is none.
std::size_t terminal_width();
/// The bytes of a zstd frame; ec::truncated.
result<std::string> unzstd(const std::string& packed);

}  // namespace ntrace::tools
