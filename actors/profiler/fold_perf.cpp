// Folds what `perf script` prints, and captures of it. Rules R1–R17 of docs/profiling.md.
#include <algorithm>
#include <charconv>

#include "actors/profiler/fold.hpp"

namespace ntrace::profiler {
namespace {

struct header {
  std::string_view comm, pid, tid, event;
  std::uint64_t period = 1;
  double seconds = 0;
};

struct frame_line {
  std::uint64_t address = 0;
  std::string_view symbol, dso;
};

bool is_digits(std::string_view s) {
  return !s.empty() && s.find_first_not_of("0123456789") == std::string_view::npos;
}

std::string_view trimmed(std::string_view s) {
  const auto first = s.find_first_not_of(" \t");
  return first == std::string_view::npos ? std::string_view{} : s.substr(first, s.find_last_not_of(" \t") - first + 1);
}

/// Cuts the last word off `s`.
std::string_view take_last(std::string_view& s) {
  s = trimmed(s);
  const auto blank = s.find_last_of(" \t");
  const auto word = blank == std::string_view::npos ? s : s.substr(blank + 1);
  s = blank == std::string_view::npos ? std::string_view{} : s.substr(0, blank);
  return word;
}

/// R2: read from the right, for the comm may hold anything.
std::optional<header> parse_header(std::string_view line) {
  header out;
  auto rest = trimmed(line);
  if (!rest.ends_with(':')) return {};
  out.event = take_last(rest);
  out.event.remove_suffix(1);
  auto word = take_last(rest);
  if (is_digits(word)) {
    std::from_chars(word.data(), word.data() + word.size(), out.period);
    word = take_last(rest);
  }
  if (!word.ends_with(':')) return {};
  word.remove_suffix(1);
  const auto dot = word.find('.');
  if (dot == std::string_view::npos || !is_digits(word.substr(0, dot)) || !is_digits(word.substr(dot + 1)))
    return {};
  std::from_chars(word.data(), word.data() + word.size(), out.seconds);
  word = take_last(rest);
  if (word.size() > 2 && word.front() == '[' && word.back() == ']') word = take_last(rest);
  const auto slash = word.find('/');
  out.pid = word.substr(0, slash);
  out.tid = slash == std::string_view::npos ? out.pid : word.substr(slash + 1);
  const auto is_id = [](std::string_view id) { return id == "-1" || is_digits(id); };
  if (!is_id(out.pid) || !is_id(out.tid)) return {};
  out.comm = trimmed(rest);
  return out;
}

/// R5: `addr symbol[+0xoff] (dso)`, the dso being the last balanced parenthesis.
std::optional<frame_line> parse_frame(std::string_view line) {
  frame_line out;
  auto rest = trimmed(line);
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), out.address, 16);
  if (error != std::errc{}) return {};
  rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
  if (rest.empty() || rest.front() != ' ' || rest.back() != ')') return {};
  int depth = 0;
  auto at = rest.size();
  while (at > 0) {
    --at;
    if (rest[at] == ')') ++depth;
    if (rest[at] == '(' && --depth == 0) break;
  }
  if (depth != 0) return {};
  out.dso = rest.substr(at + 1, rest.size() - at - 2);
  out.symbol = trimmed(rest.substr(0, at));
  if (const auto plus = out.symbol.rfind("+0x"); plus != std::string_view::npos && plus > 0 &&
      out.symbol.find_first_not_of("0123456789abcdef", plus + 3) == std::string_view::npos)
    out.symbol = out.symbol.substr(0, plus);
  return out;
}

bool is_perf_map(std::string_view dso) {
  const auto slash = dso.rfind('/');
  const auto name = dso.substr(slash == std::string_view::npos ? 0 : slash + 1);
  return (name.starts_with("perf-") && name.ends_with(".map")) || name.starts_with("jitted-") ||
         dso == "//anon" || dso == "anon";
}

bool is_kernel(std::string_view dso) {
  if (dso == "[unknown]" || dso == "[vdso]" || dso == "[heap]" || dso == "[stack]" || dso == "[vsyscall]") return false;
  return (dso.starts_with('[') && dso.ends_with(']')) || dso.ends_with("vmlinux") ||
         dso.starts_with("[kernel.kallsyms]") || dso.ends_with(".ko");
}

class perf_folder {
 public:
  explicit perf_folder(const fold_options& options) : options_{options} {}

  result<folding> run(std::string_view input) {
    line_reader lines{input};
    std::uint64_t non_blank = 0;
    for (std::string_view line; lines.next(line);) {
      if (trimmed(line).empty() || line.starts_with('#')) continue;
      ++non_blank;
      if (auto frame = parse_frame(line)) {
        if (!open_) {
          skip_line(out_.report, lines.number(), line);
        } else if (wanted_) {
          frames_.push_back(*frame);
        }
      } else if (auto head = parse_header(line)) {
        if (auto closed = close(); !closed) return fail(closed.error());
        begin(*head);
      } else {
        skip_line(out_.report, lines.number(), line);
      }
    }
    if (auto closed = close(); !closed) return fail(closed.error());
    if (non_blank > 0 && out_.report.skipped_lines * 2 > non_blank)
      return fail(ec::not_perf_text, std::to_string(out_.report.skipped_lines) + " of " +
                                         std::to_string(non_blank) +
                                         " lines are not what `perf script` prints; " +
                                         (out_.report.first_skipped.empty() ? "" : out_.report.first_skipped.front()));
    return std::move(out_);
  }

 private:
  void begin(const header& h) {
    open_ = true;
    header_ = h;
    frames_.clear();
    auto& report = out_.report;
    if (report.event.empty()) report.event = options_.event.empty() || options_.event == "all" ? std::string{h.event} : options_.event;
    wanted_ = options_.event == "all" || report.event == h.event;
    if (!wanted_) ++report.other_events[std::string{h.event}];
  }

  std::string root() const {
    std::string comm{header_.comm};
    std::replace(comm.begin(), comm.end(), ' ', '_');
    const auto id = [](std::string_view s) { return s == "-1" ? std::string{"?"} : std::string{s}; };
    comm = clean_name(comm);
    if (options_.with_tid) return comm + "-" + id(header_.pid) + "/" + id(header_.tid);
    if (options_.with_pid) return comm + "-" + id(header_.pid);
    return comm;
  }

  /// The names of one frame, caller first: an inline chain gives several.
  void name_frame(const frame_line& f, std::vector<stack_set::frame_id>& to) {
    const auto push = [&](const std::string& name) { to.push_back(out_.stacks.intern(name)); };
    if (is_kernel(f.dso)) {
      std::string symbol{f.symbol};
      if (symbol == "[unknown]" && options_.kernel) symbol = options_.kernel->find(f.address);
      if (symbol.empty() || symbol == "[unknown]") symbol = f.dso.starts_with('[') ? std::string{f.dso} : "[kernel]";
      return push(clean_name(symbol == "[kernel.kallsyms]" ? "[kernel]" : symbol) + "_[k]");
    }
    if (is_perf_map(f.dso)) return name_jit_frame(f, push);
    if (f.symbol == "[unknown]" || f.symbol.empty()) {
      auto dso = f.dso;
      if (dso.ends_with(" (deleted)")) dso.remove_suffix(10);
      if (dso.empty() || dso == "[unknown]") return push("[unknown]");
      const auto base = dso.substr(dso.rfind('/') == std::string_view::npos ? 0 : dso.rfind('/') + 1);
      return push(base.starts_with('[') ? clean_name(base) : "[" + clean_name(base) + "]");
    }
    if (f.symbol.starts_with("Builtins_")) return push(clean_name("v8:" + std::string{f.symbol.substr(9)}));
    push(clean_name(drop_parameters(f.symbol)));
  }

  template <class Push>
  void name_jit_frame(const frame_line& f, const Push& push) {
    std::string_view symbol = f.symbol;
    if (symbol == "[unknown]" || symbol.empty()) {
      int pid = -1;
      std::from_chars(header_.pid.data(), header_.pid.data() + header_.pid.size(), pid);
      const auto map = options_.maps.find(pid);
      const auto found = map == options_.maps.end() ? perf_map::symbol{} : map->second.find(f.address);
      if (found.name.empty()) {
        has_unresolved_ = true;
        return push("[jit " + std::string{header_.pid} + "]_[j]");
      }
      has_ambiguous_ = has_ambiguous_ || found.is_ambiguous;
      symbol = found.name;
    }
    if (has_js_prefix(symbol)) return push(clean_name(js_name(symbol, options_.js)) + "_[j]");
    bool is_first = true;
    for (;;) {
      const auto arrow = symbol.find("->");
      push(clean_name(symbol.substr(0, arrow)) + (is_first ? "_[j]" : "_[i]"));
      if (arrow == std::string_view::npos) return;
      is_first = false;
      symbol.remove_prefix(arrow + 2);
    }
  }

  result<void> close() {
    if (!open_ || !wanted_) {
      open_ = false;
      return {};
    }
    open_ = false;
    has_unresolved_ = has_ambiguous_ = false;
    stack_.assign(1, out_.stacks.intern(root()));
    if (frames_.size() >= options_.sampler_depth) {
      stack_.push_back(out_.stacks.intern("[truncated]"));
      ++out_.report.truncated;
    }
    for (auto at = frames_.rbegin(); at != frames_.rend(); ++at) {
      const auto before = stack_.size();
      name_frame(*at, stack_);
      if (options_.merge_recursion && stack_.size() == before + 1 && stack_[before] == stack_[before - 1])
        stack_.pop_back();
    }
    ++out_.report.samples;
    if (has_unresolved_) ++out_.report.unresolved_jit;
    if (has_ambiguous_) ++out_.report.ambiguous_jit;
    std::uint64_t weight = 1;
    if (options_.count == fold_options::weight::period) weight = header_.period;
    if (options_.count == fold_options::weight::time) {
      // Time since the last sample of any thread, in microseconds; the first one counts nothing.
      const double delta = last_seconds_ < 0 ? 0 : header_.seconds - last_seconds_;
      if (delta < 0) ++out_.report.negative_deltas;
      weight = delta > 0 ? static_cast<std::uint64_t>(delta * 1e6 + 0.5) : 0;
      last_seconds_ = header_.seconds;
    }
    return out_.stacks.add(stack_, weight);
  }

  const fold_options& options_;
  folding out_;
  header header_;
  std::vector<frame_line> frames_;
  std::vector<stack_set::frame_id> stack_;
  double last_seconds_ = -1;
  bool open_ = false;
  bool wanted_ = false;
  bool has_unresolved_ = false;
  bool has_ambiguous_ = false;
};

}  // namespace

result<folding> fold_perf(std::string_view input, const fold_options& options) {
  return perf_folder{options}.run(input);
}

}  // namespace ntrace::profiler
