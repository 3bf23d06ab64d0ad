#include "tools/completion.hpp"

#include <algorithm>
#include <set>

namespace ntrace::tools {
namespace {

bool starts_with(const std::string& word, const std::string& begin) {
  return word.compare(0, begin.size(), begin) == 0;
}

const argument* find_option(const command& of, const std::string& name) {
  for (const auto& option : of.options)
    for (const auto& one : option.names)
      if (one == name) return &option;
  return nullptr;
}

/// The state after the words before the current one.
struct position {
  const command* at;
  std::size_t positionals = 0;           ///< Given so far.
  const argument* awaits = nullptr;      ///< The option whose value comes next.
  std::set<const argument*> is_given{};  ///< Options.
  bool is_over = false;  ///< Nothing is ours after "--", or after a command that there is not.
};

position walk(const command& program, const std::vector<std::string>& words) {
  position p{&program};
  for (std::size_t i = 0; i + 1 < words.size(); ++i) {
    const auto& word = words[i];
    if (p.awaits) {
      p.awaits = nullptr;
      continue;
    }
    if (word == "--") {
      p.is_over = true;
      return p;
    }
    if (starts_with(word, "-")) {
      const auto* option = find_option(*p.at, word.substr(0, word.find('=')));
      p.is_given.insert(option);
      if (option && !option->value.empty() && word.find('=') == std::string::npos)
        p.awaits = option;
      continue;
    }
    const auto next = std::find_if(p.at->commands.begin(), p.at->commands.end(),
                                   [&](const command& one) { return one.name() == word; });
    if (next != p.at->commands.end()) {
      p = position{&*next};
      continue;
    }
    p.is_over = !p.at->commands.empty();
    if (p.is_over) return p;
    ++p.positionals;
  }
  return p;
}

}  // namespace

std::vector<candidate> complete(const command& program, const std::vector<std::string>& words,
                                const ask_for_values& ask) {
  if (words.empty()) return {};
  const auto p = walk(program, words);
  if (p.is_over) return {};
  const auto& word = words.back();
  std::vector<candidate> out;
  const auto offer = [&](const std::string& whole, const std::string& text) {
    if (starts_with(whole, word)) out.push_back({whole, text});
  };
  const auto offer_values = [&](const argument& of, const std::string& before) {
    for (const auto& choice : of.choices) offer(before + choice, "");
    if (of.choices.empty())
      for (const auto& one : ask(of.names.back(), words)) offer(before + one.word, one.text);
  };
  if (p.awaits) {
    offer_values(*p.awaits, "");
  } else if (const auto equals = word.find('='); starts_with(word, "--") && equals != word.npos) {
    if (const auto* option = find_option(*p.at, word.substr(0, equals)))
      offer_values(*option, word.substr(0, equals + 1));
  } else if (starts_with(word, "-")) {
    for (const auto& option : p.at->options)
      if (option.is_repeated || p.is_given.count(&option) == 0)
        for (const auto& name : option.names) offer(name, option.text);
  } else {
    for (const auto& one : p.at->commands) offer(one.name(), one.text);
    const auto& places = p.at->positionals;
    if (p.positionals < places.size())
      offer_values(places[p.positionals], "");
    else if (!places.empty() && places.back().is_repeated)
      offer_values(places.back(), "");
  }
  return out;
}

}  // namespace ntrace::tools
