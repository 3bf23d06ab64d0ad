#pragma once
// The program's commands and options as plain data, for shell completion and manual pages.
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace ntrace::tools {

/// Headings of settings in --help; the rare ones are shown by --help-all only.
inline constexpr const char* settings_group = "Settings";
inline constexpr const char* rare_group = "Rare settings";

/// An option, flag or positional argument.
struct argument {
  std::vector<std::string> names;    ///< "-o", "--output"; of a positional its one name: "RUN".
  std::string value;                 ///< Its kind: "FILE", "UINT"; empty for a flag.
  std::vector<std::string> choices;  ///< All its values, if they are few.
  std::string text;                  ///< One line of help.
  std::string limits;                ///< "INT in [1 - 9]", or empty.
  std::string group;                 ///< The heading that it stands under in --help.
  std::string fallback;              ///< Empty when there is none.
  std::string variable;              ///< The environment variable that sets it, or empty.
  bool is_required = false, is_repeated = false;
  bool takes_true_or_false = false;  ///< A flag that is a setting: "--x", "--x true", "--x=false".
};

struct command {
  std::string path;  ///< "ntrace", "ntrace journal", "ntrace journal check".
  std::string text;
  std::vector<argument> options, positionals;
  std::vector<command> commands;
  std::string group{};  ///< The heading that it stands under in its parent's --help.

  /// The last word of the path.
  std::string name() const;
};

/// The placeholder of an option's value in --help and in a manual page: a unit or a kind.
std::string value_name(const argument& a);

/// All that --help shows.
command read_command(const CLI::App& app, const std::string& parent = "");

}  // namespace ntrace::tools
