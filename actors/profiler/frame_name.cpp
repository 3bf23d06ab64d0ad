#include "actors/profiler/frame_name.hpp"

#include <array>
#include <cstdint>

#include "config/ascii.hpp"
#include "config/utf8.hpp"

namespace ntrace::profiler {
namespace {

constexpr std::size_t name_bytes_max = 4096;  // docs/profiling.md, R8
// The demangler writes it with parentheses, which must not be taken for parameters.
constexpr std::string_view anonymous_namespace = "(anonymous namespace)";

bool is_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/// Length of the balanced group that opens at `at`; to the end when it never closes. Within
/// parentheses '>' closes nothing, for it belongs to "->" or a comparison.
std::size_t group_length(std::string_view s, std::size_t at) {
  std::string open;
  for (auto i = at; i < s.size(); ++i) {
    const char c = s[i];
    if (c == '(' || c == '[' || c == '{' || c == '<') {
      open.push_back(c);
    } else if (c == ')' || c == ']' || c == '}' || c == '>') {
      const char opener = c == ')' ? '(' : c == ']' ? '[' : c == '}' ? '{' : '<';
      if (c == '>' && open.back() != '<') continue;
      // An unclosed '<' inside (a comparison or shift) ends with the group around it.
      while (!open.empty() && open.back() != opener && open.back() == '<') open.pop_back();
      if (!open.empty() && open.back() == opener) open.pop_back();
      if (open.empty()) return i - at + 1;
    }
  }
  return s.size() - at;
}

/// Length of the operator's symbol that follows the word `operator`.
std::size_t operator_length(std::string_view rest) {
  constexpr std::array<std::string_view, 20> symbols{"()", "[]",   "<=>", "<<=", ">>=", "->*", "->",
                                                     "<<", ">>",   "<=",  ">=",  "<",   ">",   "&&",
                                                     "||", "\"\"", "==",  "!=",  "++",  "--"};
  for (const auto symbol : symbols)
    if (rest.starts_with(symbol)) return symbol.size();
  return 0;
}

/// Characters that reorder or break lines in what shows them, and those XML 1.0 forbids.
bool is_unsafe(std::uint32_t c) {
  return (c >= 0x80 && c <= 0x9f) || c == 0x61c || c == 0x200e || c == 0x200f || c == 0x2028 ||
         c == 0x2029 || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) ||
         c == 0xfeff || (c & 0xfffe) == 0xfffe;
}

}  // namespace

std::string drop_parameters(std::string_view s) {
  std::string out;
  for (std::size_t i = 0; i < s.size();) {
    const auto rest = s.substr(i);
    if (rest.starts_with("operator") && (i == 0 || !is_word(s[i - 1]))) {
      out.append("operator");
      i += 8;
      const auto n = operator_length(s.substr(i));
      out.append(s.substr(i, n));
      i += n;
    } else if (s[i] == '(' && !rest.starts_with(anonymous_namespace) &&
               !(rest.starts_with("(*") && i > 0 && s[i - 1] == '.') && i > 0) {
      i += group_length(s, i);
      if (!s.substr(i).starts_with("::")) break;
    } else if (s[i] == '(' || s[i] == '<' || s[i] == '[' || s[i] == '{') {
      const auto n = group_length(s, i);
      out.append(s.substr(i, n));
      i += n;
    } else {
      out.push_back(s[i++]);
    }
  }
  return out.empty() ? std::string{s} : out;
}

std::string clean_name(std::string_view name) {
  name = trimmed(name, " \t\r\n");
  if (name.empty()) return "[unknown]";
  std::string out;
  while (!name.empty()) {
    std::size_t bad = 1;
    const auto n = utf8_length(name, bad);
    const auto before = out.size();
    const auto c = static_cast<unsigned char>(name.front());
    if (n == 0) {
      out.append(replacement_character);
    } else if (n == 1) {
      if (c == ';')
        out.push_back(':');
      else if (c < 0x20 || c == 0x7f)
        out.append("\\x").append(hex_text(c, 2));
      else
        out.push_back(name.front());
    } else if (const auto point = code_point(name.substr(0, n)); is_unsafe(point)) {
      out.append("\\u{").append(hex_text(point, 1)).append("}");
    } else {
      out.append(name.substr(0, n));
    }
    if (out.size() > name_bytes_max) {
      out.resize(before);
      out.append("…");
      break;
    }
    name.remove_prefix(n == 0 ? bad : n);
  }
  return out;
}

namespace {
constexpr std::array<std::string_view, 5> js_prefixes{
    "JS:", "LazyCompile:", "Function:", "Script:", "Eval:"};
constexpr std::array<std::string_view, 3> v8_prefixes{"Builtin:", "BytecodeHandler:", "Builtins_"};

std::string relative(std::string_view path, const std::string& job_folder) {
  std::string plain{path};
  if (path.starts_with("file://")) plain = percent_decoded(path.substr(7));
  if (!job_folder.empty() && plain.size() > job_folder.size() + 1 &&
      plain.starts_with(job_folder) && plain[job_folder.size()] == '/')
    plain.erase(0, job_folder.size() + 1);
  return plain;
}
}  // namespace

bool has_js_prefix(std::string_view mapped) {
  for (const auto prefix : js_prefixes)
    if (mapped.starts_with(prefix)) return true;
  for (const auto prefix : v8_prefixes)
    if (mapped.starts_with(prefix)) return true;
  return mapped.starts_with("RegExp:");
}

std::string js_name(std::string_view mapped, const js_style& style) {
  for (const auto prefix : v8_prefixes)
    if (mapped.starts_with(prefix)) return "v8:" + std::string{mapped.substr(prefix.size())};
  std::string_view rest = mapped;
  bool known = false;
  for (const auto prefix : js_prefixes) {
    if (!mapped.starts_with(prefix)) continue;
    rest = mapped.substr(prefix.size());
    known = true;
    break;
  }
  if (!known) return std::string{mapped};
  std::string tier;
  if (!rest.empty() && std::string_view{"~^+*"}.find(rest.front()) != std::string_view::npos) {
    tier = "[" + std::string{rest.front()} + "]";
    rest.remove_prefix(1);
  }
  // "name file:line:col": the file is what follows the last blank, unless it has none of a path.
  const auto blank = rest.rfind(' ');
  std::string name{blank == std::string_view::npos ? rest : rest.substr(0, blank)};
  const auto file = blank == std::string_view::npos ? std::string_view{} : rest.substr(blank + 1);
  if (name.empty()) name = "(anonymous)";
  if (style.keep_tiers) name = tier + name;
  return file.empty() ? name : name + " " + relative(file, style.job_folder);
}

}  // namespace ntrace::profiler
