#include "tools/usage.hpp"

#include <fmt/core.h>
#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <numeric>

namespace ntrace::tools {
namespace {

using words_t = std::vector<std::string>;

/// How many letters are wrong, missing, too many or in exchanged places.
std::size_t distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i)
    for (std::size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min(
          {d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0u : 1u)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  return d[a.size()][b.size()];
}

/// "a, b and c"; `last` is the word before the last one.
std::string listed(const words_t& all, const char* last) {
  std::string out;
  for (std::size_t i = 0; i < all.size(); ++i)
    out += (i == 0 ? "" : i + 1 == all.size() ? std::string{" "} + last + " " : ", ") + all[i];
  return out;
}

bool is_whole_number(const std::string& text) {
  std::int64_t value = 0;
  const auto begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const auto [end, error] = std::from_chars(begin, text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() && !text.empty();
}

bool is_number(const std::string& text) {
  char* end = nullptr;
  std::strtod(text.c_str(), &end);
  return !text.empty() && end == text.c_str() + text.size();
}

bool is_whole_kind(const argument& a) {
  return a.value == "INT" || a.value == "UINT" || a.value == "MS" || a.value == "N";
}
bool is_number_kind(const argument& a) {
  return is_whole_kind(a) || a.value == "FLOAT" || a.value == "SECONDS" || a.value == "MINUTES";
}

/// Of "INT in [1 - 1000]".
std::optional<std::pair<double, double>> range_of(const argument& a) {
  const auto open = a.limits.find(" in ["), dash = a.limits.find(" - ");
  if (open == std::string::npos || dash == std::string::npos) return {};
  return std::pair{std::strtod(a.limits.c_str() + open + 5, nullptr),
                   std::strtod(a.limits.c_str() + dash + 3, nullptr)};
}

std::optional<std::string> value_fault(const std::string& name, const argument& a,
                                       const std::string& value) {
  bool is_wrong = false;
  std::string hint;
  if (!a.choices.empty()) {
    is_wrong = std::find(a.choices.begin(), a.choices.end(), value) == a.choices.end();
    if (const auto near = nearest(value, a.choices); is_wrong && !near.empty())
      hint = "; did you mean " + near + "?";
  } else if (is_number_kind(a)) {
    is_wrong = is_whole_kind(a) ? !is_whole_number(value) : !is_number(value);
    const auto range = range_of(a);
    const auto number = std::strtod(value.c_str(), nullptr);
    is_wrong = is_wrong || (range && (number < range->first || number > range->second)) ||
               (a.value == "UINT" && value.starts_with('-'));
  }
  if (!is_wrong) return {};
  return fmt::format("{} takes {}, not {}{}", name, kind_text(a),
                     value.empty() ? "an empty text" : value, hint);
}

/// Goes over the words as CLI11 would, and finds the first fault in words for people.
class walk {
public:
  explicit walk(const command& program) : program_{program}, at_{&program} {}

  std::optional<std::string> over(const words_t& words) {
    for (std::size_t i = 0; i < words.size(); ++i) {
      const auto& word = words[i];
      std::optional<std::string> fault;
      if (!only_places_ && word == "--") {
        only_places_ = true;
      } else if (!only_places_ && is_option(word)) {
        fault = word.starts_with("--") ? long_option(words, i) : short_options(words, i);
      } else if (!at_->commands.empty()) {
        fault = enter(word);
      } else {
        fault = place(word);
      }
      if (fault) return fault;
      if (asks_for_help_) return {};
    }
    return missing();
  }

private:
  static bool is_option(const std::string& word) {
    return word.size() > 1 && word[0] == '-' && !is_number(word);
  }

  const argument* find(const command& of, const std::string& name) const {
    for (const auto& option : of.options)
      if (std::find(option.names.begin(), option.names.end(), name) != option.names.end())
        return &option;
    return nullptr;
  }

  std::string help() const { return "`" + at_->path + " --help`"; }

  std::string unknown_option(const std::string& name) const {
    words_t all;
    for (const auto& option : at_->options)
      for (const auto& one : option.names)
        if (one.starts_with("--")) all.push_back(one);
    const auto near = name.starts_with("--") ? nearest(name, all) : "";
    if (!near.empty()) return fmt::format("unknown option {}; did you mean {}?", name, near);
    for (const auto& one : at_->commands)
      if (find(one, name))
        return fmt::format("unknown option {}; options stand behind the command: `{} {}`", name,
                           one.path, name);
    return fmt::format("unknown option {}; {} lists those of {}", name, help(), at_->path);
  }

  /// The value is inline, or the next word, which then is passed over.
  std::optional<std::string> take_value(const std::string& name, const argument& option,
                                        const std::optional<std::string>& inline_value,
                                        const words_t& words, std::size_t& i) {
    const auto no_value = [&] {
      const auto kind = kind_text(option);
      return name + " needs a value" + (kind.empty() ? "" : ": " + kind);
    };
    if (inline_value) return value_fault(name, option, *inline_value);
    if (i + 1 >= words.size() || words[i + 1] == "--" || find(*at_, words[i + 1]))
      return no_value();
    return value_fault(name, option, words[++i]);
  }

  std::optional<std::string> long_option(const words_t& words, std::size_t& i) {
    const auto& word = words[i];
    const auto equals = word.find('=');
    const auto name = word.substr(0, equals);
    const auto* option = find(*at_, name);
    if (!option) return unknown_option(name);
    asks_for_help_ = name == "--help" || name == "--help-all" || name == "--version";
    const auto given = equals == std::string::npos
                           ? std::optional<std::string>{}
                           : std::optional<std::string>{word.substr(equals + 1)};
    if (!option->value.empty()) {
      if (is_twice(*option)) return name + " is given twice";
      return take_value(name, *option, given, words, i);
    }
    if (given && *given != "true" && *given != "false")
      return name + " takes true or false, or nothing, not " + *given;
    return {};
  }

  std::optional<std::string> short_options(const words_t& words, std::size_t& i) {
    const auto word = words[i];
    for (std::size_t at = 1; at < word.size(); ++at) {
      const auto name = std::string{"-"} + word[at];
      const auto* option = find(*at_, name);
      if (!option) return unknown_option(name);
      if (name == "-h") asks_for_help_ = true;
      if (option->value.empty()) continue;
      if (is_twice(*option)) return name + " is given twice";
      auto rest = word.substr(at + 1);
      if (rest.starts_with('=')) rest.erase(0, 1);
      return take_value(name, *option, at + 1 < word.size() ? std::optional{rest} : std::nullopt,
                        words, i);
    }
    return {};
  }

  bool is_twice(const argument& option) {
    const bool is_given = std::find(given_.begin(), given_.end(), &option) != given_.end();
    given_.push_back(&option);
    return is_given && !option.is_repeated;
  }

  std::optional<std::string> enter(const std::string& word) {
    words_t names;
    for (const auto& one : at_->commands) {
      if (one.name() == word) {
        at_ = &one;
        given_.clear();
        return {};
      }
      names.push_back(one.name());
    }
    const auto what = "unknown command " + word + (at_ == &program_ ? "" : " of " + at_->path);
    const auto near = nearest(word, names);
    if (!near.empty()) return fmt::format("{}; did you mean {}?", what, near);
    return at_ == &program_ ? fmt::format("{}; {} lists the commands", what, help())
                            : what + ": there are " + listed(names, "and");
  }

  std::optional<std::string> place(const std::string& word) {
    const auto& places = at_->positionals;
    if (taken_ < places.size()) {
      const auto& one = places[taken_];
      if (!one.is_repeated) ++taken_;
      has_last_ = true;
      return value_fault(one.names.front(), one, word);
    }
    std::string takes;
    for (const auto& one : places) takes += (takes.empty() ? "" : " ") + one.names.front();
    return fmt::format("one word too many: {}; {} takes {}", word, at_->path,
                       takes.empty() ? "options only" : takes);
  }

  std::optional<std::string> missing() const {
    if (!at_->commands.empty()) {
      words_t names;
      for (const auto& one : at_->commands) names.push_back(one.name());
      return at_ == &program_ ? "which command? " + help() + " lists them"
                              : at_->path + " needs a command: " + listed(names, "or");
    }
    words_t absent;
    for (std::size_t i = taken_; i < at_->positionals.size(); ++i) {
      const auto& one = at_->positionals[i];
      if (one.is_required && !(one.is_repeated && has_last_))
        absent.push_back(one.names.front() + (one.text.empty() ? "" : " (" + one.text + ")"));
    }
    for (const auto& one : at_->options)
      if (one.is_required && std::find(given_.begin(), given_.end(), &one) == given_.end())
        absent.push_back(one.names.back() + (one.text.empty() ? "" : " (" + one.text + ")"));
    if (absent.empty()) return {};
    return at_->path + " needs " + listed(absent, "and");
  }

  const command& program_;
  const command* at_;
  std::vector<const argument*> given_;
  std::size_t taken_ = 0;
  bool only_places_ = false, has_last_ = false, asks_for_help_ = false;
};

}  // namespace

std::string nearest(const std::string& word, const std::vector<std::string>& all) {
  const auto bare = word.substr(std::min(word.find_first_not_of('-'), word.size()));
  std::string out;
  auto best = std::max<std::size_t>(1, bare.size() / 3) + 1;
  for (const auto& one : all) {
    const auto name = one.substr(std::min(one.find_first_not_of('-'), one.size()));
    const auto d = bare.size() >= 3 && name.starts_with(bare) ? 1 : distance(bare, name);
    if (d < best && d < name.size()) {
      best = d;
      out = one;
    }
  }
  return out;
}

std::string kind_text(const argument& a) {
  if (!a.choices.empty()) return listed(a.choices, "or");
  std::string out;
  if (a.value == "MS")
    out = "a whole number of milliseconds";
  else if (a.value == "SECONDS" || a.value == "MINUTES")
    out = a.value == "SECONDS" ? "a number of seconds" : "a number of minutes";
  else if (a.value == "BYTES")
    out = "a number of bytes such as 64MiB";
  else if (is_whole_kind(a))
    out = "a whole number";
  else if (is_number_kind(a))
    out = "a number";
  const auto open = a.limits.find('['), close = a.limits.rfind(']');
  if (range_of(a) && close != std::string::npos) {
    auto range = a.limits.substr(open + 1, close - open - 1);
    range.replace(range.find(" - "), 3, " to ");
    out += " from " + range;
  }
  return out;
}

std::vector<std::string> join_flag_values(const command& program, std::vector<std::string> words) {
  const auto* at = &program;
  std::vector<std::string> out;
  for (std::size_t i = 0; i < words.size(); ++i) {
    auto word = words[i];
    if (word == "--") {
      out.insert(out.end(), words.begin() + static_cast<std::ptrdiff_t>(i), words.end());
      break;
    }
    for (const auto& one : at->commands)
      if (one.name() == word) {
        at = &one;
        break;
      }
    const auto is_flag = [&](const argument& a) {
      return a.value.empty() && a.takes_true_or_false &&
             std::find(a.names.begin(), a.names.end(), word) != a.names.end();
    };
    if (i + 1 < words.size() && (words[i + 1] == "true" || words[i + 1] == "false") &&
        std::any_of(at->options.begin(), at->options.end(), is_flag))
      word += "=" + words[++i];
    out.push_back(std::move(word));
  }
  return out;
}

std::optional<std::string> find_fault(const command& program,
                                      const std::vector<std::string>& words) {
  return walk{program}.over(words);
}

}  // namespace ntrace::tools
