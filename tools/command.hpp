#pragma once
// What the subcommands share: settings from flags, one RPC, errors and exit codes, plain tables.
#include <CLI/CLI.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "config/settings.hpp"
#include "net/rpc_client.hpp"
#include "tools/text.hpp"

namespace ntrace::tools {

using nlohmann::json;

/// Where a subcommand leaves its exit code; it runs after the command line is parsed.
struct outcome {
  std::function<int()> run;
};

// One function per file; each adds its subcommands to the program.
void add_serve(CLI::App& app, outcome& out);
void add_push(CLI::App& app, outcome& out);
void add_runs(CLI::App& app, outcome& out);
void add_flame(CLI::App& app, outcome& out);
void add_engine(CLI::App& app, outcome& out);
void add_fleet(CLI::App& app, outcome& out);
void add_zone(CLI::App& app, outcome& out);
void add_profile(CLI::App& app, outcome& out);
void add_doctor(CLI::App& app, outcome& out);
void add_config(CLI::App& app, outcome& out);
void add_journal(CLI::App& app, outcome& out);
void add_bench(CLI::App& app, outcome& out);
void add_sim(CLI::App& app, outcome& out);
void add_tunnel(CLI::App& app, outcome& out);
void add_provision(CLI::App& app, outcome& out);
void add_shell(CLI::App& app, outcome& out);
void add_top(CLI::App& app, outcome& out);
void add_chaos(CLI::App& app, outcome& out);
void add_completion(CLI::App& app, outcome& out);

/// The settings as flags of one subcommand.
class setting_flags {
public:
  /// Adds --config and a flag for each key; --help shows those of `common`, --help-all the others.
  explicit setting_flags(CLI::App* sub, const std::vector<std::string>& common = {"data"});
  /// Defaults < file < environment < flags; the data folder is filled in.
  result<settings> load() const;

private:
  std::string file_;
  std::map<std::string, std::string> values_;
  CLI::App* sub_;
};

/// Prints the error to stderr (or as JSON to stdout) and gives its exit code.
int report(const error& e, bool as_json = false);

/// --dispatcher or --runner with its default and environment variable, and --json.
struct server_flags {
  std::string at;
  bool as_json = false;
  std::string name;
  void add(CLI::App* sub, const char* server, const char* fallback);
  /// Without --json: the second server of a command.
  void add_address(CLI::App* sub, const char* server, const char* fallback);
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
void add_require_profile(CLI::App* sub, bool& value);
/// `code`, or where that is 0 and a required profile is missing the exit code of profile_failed.
int with_profile(int code, const std::string& missing, bool is_required);
/// The data of a chunk from `logs`; what cannot be unpacked gives an error text.
std::string chunk_text(const json& chunk);
/// Columns of the terminal, or 0 when stdout is none.
std::size_t terminal_width();
/// The bytes of a zstd frame; ec::truncated.
result<std::string> unzstd(const std::string& packed);

}  // namespace ntrace::tools
