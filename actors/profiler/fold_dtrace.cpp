// Folds DTrace's printed stack aggregations: stanzas of frames, leaf first, each ended by a count.
#include <fmt/core.h>
#include <algorithm>
#include <charconv>

#include "actors/profiler/fold.hpp"
#include "config/ascii.hpp"

namespace ntrace::profiler {
namespace {

/// Node's ustack helper wrote it: it describes a JavaScript function, not a symbol.
bool is_helper_frame(std::string_view t) {
  return t.starts_with("<<") || t.starts_with("(anon) as ") ||
         t.find(" at ") != std::string_view::npos;
}

/// Frames are "module`symbol+0xoffset", a bare address, or text of a helper.
bool is_frame(std::string_view t) {
  return t.find('`') != std::string_view::npos || t.starts_with("0x") || is_helper_frame(t);
}

/// `(anon) as f at /p/x.js position 12` → `f /p/x.js@12`; `f at x.js line 3` → `f x.js:3`.
std::string helper_name(std::string_view t, const js_style& style) {
  if (t.starts_with("<<")) return std::string{t};
  if (t.starts_with("(anon) as ")) t.remove_prefix(10);
  const auto at = t.rfind(" at ");
  if (at == std::string_view::npos) return std::string{t};
  std::string name{t.substr(0, at)};
  auto place = t.substr(at + 4);
  std::string suffix;
  for (const auto& [word, mark] : {std::pair{" position ", "@"}, std::pair{" line ", ":"}}) {
    const auto found = place.rfind(word);
    if (found == std::string_view::npos) continue;
    suffix = mark + std::string{place.substr(found + std::string_view{word}.size())};
    place = place.substr(0, found);
    break;
  }
  // js_name() knows how to make the job's paths relative.
  return js_name(fmt::format("JS:{} {}{}", name, place, suffix), style);
}

/// genunix and unix are the modules of the illumos kernel.
std::string frame_name(std::string_view t, const js_style& style) {
  if (t.starts_with("0x")) return "[unknown]";
  if (is_helper_frame(t) && t.find('`') == std::string_view::npos)
    return clean_name(helper_name(t, style)) + "_[j]";
  if (const auto plus = t.rfind("+0x");
      plus != std::string_view::npos && plus > 0 &&
      t.find_first_not_of("0123456789abcdef", plus + 3) == std::string_view::npos)
    t = t.substr(0, plus);
  const auto tick = t.find('`');
  const auto module = t.substr(0, tick);
  auto name = std::string{module} + "`" + drop_parameters(t.substr(tick + 1));
  const bool is_kernel = module == "genunix" || module == "unix";
  return clean_name(name) + (is_kernel ? "_[k]" : "");
}

/// One stack of an aggregation, up to the line that holds its count.
struct stanza {
  std::vector<std::string_view> leaf_part,
      root_part;  ///< Leaf first; before and after a blank line.
  std::string_view key;
  bool has_break = false;
  std::size_t lines = 0;
};

result<void> add_stanza(folding& out, const stanza& s, std::uint64_t count,
                        const fold_options& options) {
  std::vector<std::string_view> leaf_first = s.leaf_part;
  leaf_first.insert(leaf_first.end(), s.root_part.begin(), s.root_part.end());
  std::vector<stack_set::frame_id> stack;
  if (!s.key.empty()) {
    // "execname pid" printed before the frames.
    const auto blank = s.key.find_last_of(" \t");
    const auto pid = blank == std::string_view::npos ? std::string_view{} : s.key.substr(blank + 1);
    const bool has_pid = whole_number(pid).has_value();
    std::string root{has_pid ? trimmed(s.key.substr(0, blank)) : s.key};
    std::replace(root.begin(), root.end(), ' ', '_');
    if (has_pid && (options.with_pid || options.with_tid)) root += "-" + std::string{pid};
    stack.push_back(out.stacks.intern(clean_name(root)));
  }
  for (auto at = leaf_first.rbegin(); at != leaf_first.rend(); ++at) {
    const auto name = frame_name(*at, options.js);
    const auto id = out.stacks.intern(name);
    const bool is_repeat = !stack.empty() && stack.back() == id;
    if (is_repeat && (options.merge_recursion || name == "[unknown]")) continue;
    stack.push_back(id);
  }
  ++out.report.samples;
  return out.stacks.add(stack, count);
}

}  // namespace

result<folding> fold_dtrace(std::string_view input, const fold_options& options) {
  folding out;
  stanza now;
  bool skip_probe_line = false;
  line_reader lines{input};
  for (std::string_view line; lines.next(line);) {
    const auto t = trimmed(line);
    if (t.starts_with("CPU") && t.find("FUNCTION:NAME") != std::string_view::npos) {
      skip_probe_line = true;
      continue;
    }
    if (t.find("value ") == 0 && t.find("Distribution") != std::string_view::npos)
      return fail(ec::unsupported,
                  "the aggregation is quantised: print stacks with count() or sum()");
    if (std::exchange(skip_probe_line, false) && !t.empty() && !is_frame(t) && !whole_number(t))
      continue;
    if (t.empty()) {
      now.has_break = !now.leaf_part.empty();
      continue;
    }
    if (const auto count = whole_number(t)) {
      if (*count < 0)
        return fail(ec::bad_profile, fmt::format("line {}: negative count", lines.number()));
      if (now.lines == 0) {
        skip_line(out.report, lines.number(), line);
      } else if (*count > 0) {
        if (auto added = add_stanza(out, now, static_cast<std::uint64_t>(*count), options); !added)
          return fail(added.error());
      }
      now = {};
      continue;
    }
    if (!is_frame(t)) {
      if (now.lines == 0)
        now.key = t;
      else
        skip_line(out.report, lines.number(), line);
    } else {
      (now.has_break ? now.root_part : now.leaf_part).push_back(t);
    }
    ++now.lines;
  }
  if (now.lines > 0) skip_line(out.report, lines.number(), "a stanza without a count");
  return out;
}

}  // namespace ntrace::profiler
