#include "tools/cli.hpp"

#include <CLI/CLI.hpp>
#include <cstdint>
#include <utility>

namespace ntrace::tools::cli {

template <typename T>
rule range(T least, T most) {
  return [least, most](CLI::Option& o) { o.check(CLI::Range(least, most)); };
}

rule one_of(std::vector<std::string> words) {
  return [words = std::move(words)](CLI::Option& o) { o.check(CLI::IsMember(words)); };
}

rule existing_file() {
  return [](CLI::Option& o) { o.check(CLI::ExistingFile); };
}

rule existing_folder() {
  return [](CLI::Option& o) { o.check(CLI::ExistingDirectory); };
}

option option::type_name(const std::string& name) const { return option{of_->type_name(name)}; }
option option::capture_default_str() const { return option{of_->capture_default_str()}; }
option option::default_str(const std::string& text) const { return option{of_->default_str(text)}; }
option option::required() const { return option{of_->required()}; }
option option::envname(const std::string& name) const { return option{of_->envname(name)}; }
option option::group(const std::string& name) const { return option{of_->group(name)}; }
option option::delimiter(char between) const { return option{of_->delimiter(between)}; }
option option::excludes(const option& other) const { return option{of_->excludes(other.of_)}; }

option option::check(const rule& r) const {
  r(*of_);
  return *this;
}

app app::add_subcommand(const std::string& name, const std::string& text) const {
  return app{*of_->add_subcommand(name, text)};
}

template <typename T>
option app::add_option(const std::string& names, T& variable, const std::string& text) const {
  return option{of_->add_option(names, variable, text)};
}

template <typename T>
option app::add_flag(const std::string& names, T& variable, const std::string& text) const {
  return option{of_->add_flag(names, variable, text)};
}

void app::callback(std::function<void()> on_parsed) const { of_->callback(std::move(on_parsed)); }
void app::group(const std::string& name) const { of_->group(name); }
void app::require_subcommand(int number) const { of_->require_subcommand(number); }
std::size_t app::count(const std::string& name) const { return of_->count(name); }

template rule range(int, int);
template rule range(unsigned, unsigned);
template rule range(std::uint64_t, std::uint64_t);
template rule range(double, double);

using text = const std::string&;
template option app::add_option(text, std::string&, text) const;
template option app::add_option(text, int&, text) const;
template option app::add_option(text, unsigned&, text) const;
template option app::add_option(text, std::int64_t&, text) const;
template option app::add_option(text, std::uint64_t&, text) const;
template option app::add_option(text, double&, text) const;
template option app::add_option(text, std::vector<std::string>&, text) const;
template option app::add_flag(text, bool&, text) const;
template option app::add_flag(text, std::string&, text) const;

}  // namespace ntrace::tools::cli
