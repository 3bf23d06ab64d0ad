#pragma once
// The command line as the subcommands see it: handles of CLI11's objects. CLI11's own header costs
// two seconds of CPU in each source, so that only those include it that read or parse the whole.
#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace ntrace::tools::cli {

/// What a value has to be; it also stands in --help.
using rule = std::function<void(CLI::Option&)>;

/// From `least` to `most`, both included. T: int, unsigned, std::uint64_t or double.
template <typename T>
rule range(T least, T most);
rule one_of(std::vector<std::string> words);
rule existing_file();
rule existing_folder();

/// A handle of an option, flag or positional argument. Each member gives it back, for the next.
class option {
public:
  explicit option(CLI::Option* of) : of_{of} {}
  option type_name(const std::string& name) const;
  /// What the variable holds now stands in --help.
  option capture_default_str() const;
  option default_str(const std::string& text) const;
  option required() const;
  option check(const rule& r) const;
  option envname(const std::string& name) const;
  option group(const std::string& name) const;
  option delimiter(char between) const;
  option excludes(const option& other) const;

private:
  CLI::Option* of_;
};

/// A handle of a command.
class app {
public:
  explicit app(CLI::App& of) : of_{&of} {}
  app add_subcommand(const std::string& name, const std::string& text) const;
  /// The variable gets the value; it outlives the parsing. T: a type that cli.cpp names.
  template <typename T>
  option add_option(const std::string& names, T& variable, const std::string& text = {}) const;
  template <typename T>
  option add_flag(const std::string& names, T& variable, const std::string& text = {}) const;
  void callback(std::function<void()> on_parsed) const;
  void group(const std::string& name) const;
  void require_subcommand(int number) const;
  /// How often the option was given.
  std::size_t count(const std::string& name) const;
  const CLI::App& parsed() const { return *of_; }

private:
  CLI::App* of_;
};

}  // namespace ntrace::tools::cli
