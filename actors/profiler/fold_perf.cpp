// Folds what `perf script` prints, and captures of it. Rules R1–R17 of docs/profiling.md.
#include <fmt/core.h>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "actors/profiler/fold_perf.hpp"
#include "config/ascii.hpp"

namespace ntrace::profiler {
namespace {

using header = perf_folder::header;
using frame_line = perf_folder::frame_line;

bool is_digits(std::string_view s) {
  return !s.empty() && s.find_first_not_of("0123456789") == std::string_view::npos;
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
  if (dot == std::string_view::npos || !is_digits(word.substr(0, dot)) ||
      !is_digits(word.substr(dot + 1)))
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
  const auto [end, error] =
      std::from_chars(rest.data(), rest.data() + rest.size(), out.address, 16);
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
  if (const auto plus = out.symbol.rfind("+0x");
      plus != std::string_view::npos && plus > 0 &&
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
  if (dso == "[unknown]" || dso == "[vdso]" || dso == "[heap]" || dso == "[stack]" ||
      dso == "[vsyscall]")
    return false;
  return (dso.starts_with('[') && dso.ends_with(']')) || dso.ends_with("vmlinux") ||
         dso.starts_with("[kernel.kallsyms]") || dso.ends_with(".ko");
}

}  // namespace

result<void> perf_folder::on_line(std::string_view line, std::uint64_t number) {
  if (trimmed(line).empty() || line.starts_with('#')) return {};
  ++non_blank_;
  if (auto frame = parse_frame(line)) {
    if (!open_)
      skip_line(out_.report, number, line);
    else if (wanted_)
      on_frame(*frame);
  } else if (auto head = parse_header(line)) {
    if (auto closed = close(); !closed) return closed;
    begin(*head);
  } else {
    skip_line(out_.report, number, line);
  }
  return {};
}

result<folding> perf_folder::finish() {
  if (auto closed = close(); !closed) return fail(closed.error());
  const auto& report = out_.report;
  if (report.skipped_lines * 2 > non_blank_)
    return fail(ec::not_perf_text,
                fmt::format("{} of {} lines are not what `perf script` prints; the first is {}",
                            report.skipped_lines, non_blank_, report.first_skipped.front()));
  return std::move(out_);
}

void perf_folder::begin(const header& h) {
  open_ = true;
  frames_ = 0;
  leaf_first_.clear();
  has_unresolved_ = has_ambiguous_ = false;
  period_ = h.period;
  seconds_ = h.seconds;
  pid_text_ = h.pid;
  pid_ = -1;
  std::from_chars(h.pid.data(), h.pid.data() + h.pid.size(), pid_);
  auto& report = out_.report;
  const bool any = options_.event.empty() || options_.event == "all";
  if (report.event.empty()) report.event = any ? std::string{h.event} : options_.event;
  wanted_ = options_.event == "all" || report.event == h.event;
  if (!wanted_) {
    ++report.other_events[std::string{h.event}];
    return;
  }
  std::string comm{h.comm};
  std::replace(comm.begin(), comm.end(), ' ', '_');
  comm = clean_name(comm);
  const auto id = [](std::string_view s) { return s == "-1" ? std::string{"?"} : std::string{s}; };
  if (options_.with_tid)
    comm += fmt::format("-{}/{}", id(h.pid), id(h.tid));
  else if (options_.with_pid)
    comm += "-" + id(h.pid);
  root_ = out_.stacks.intern(comm);
}

void perf_folder::push(const std::string& name) { leaf_first_.push_back(out_.stacks.intern(name)); }

/// The names of one frame, leaf first: an inline chain gives several.
void perf_folder::on_frame(const frame_line& f) {
  ++frames_;
  if (is_kernel(f.dso)) {
    std::string symbol{f.symbol};
    if (symbol == "[unknown]" && options_.kernel) symbol = options_.kernel->find(f.address);
    if (symbol.empty() || symbol == "[unknown]")
      symbol = f.dso.starts_with('[') ? std::string{f.dso} : "[kernel]";
    return push(clean_name(symbol.starts_with("[kernel.kallsyms]") ? "[kernel]" : symbol) + "_[k]");
  }
  if (is_perf_map(f.dso)) return on_jit_frame(f);
  if (f.symbol == "[unknown]" || f.symbol.empty()) {
    auto dso = f.dso;
    if (dso.ends_with(" (deleted)")) dso.remove_suffix(10);
    if (dso.empty() || dso == "[unknown]") return push("[unknown]");
    const auto slash = dso.rfind('/');
    const auto base = clean_name(dso.substr(slash == std::string_view::npos ? 0 : slash + 1));
    return push(base.starts_with('[') ? base : "[" + base + "]");
  }
  if (f.symbol.starts_with("Builtins_"))
    return push(clean_name("v8:" + std::string{f.symbol.substr(9)}));
  push(clean_name(drop_parameters(f.symbol)));
}

void perf_folder::on_jit_frame(const frame_line& f) {
  std::string_view symbol = f.symbol;
  if (symbol == "[unknown]" || symbol.empty()) {
    const auto map = options_.maps.find(pid_);
    const auto found =
        map == options_.maps.end() ? perf_map::symbol{} : map->second.find(f.address);
    if (found.name.empty()) {
      has_unresolved_ = true;
      return push("[jit " + pid_text_ + "]_[j]");
    }
    has_ambiguous_ = has_ambiguous_ || found.is_ambiguous;
    symbol = found.name;
  }
  if (has_js_prefix(symbol)) return push(clean_name(js_name(symbol, options_.js)) + "_[j]");
  const auto first = leaf_first_.size();
  for (bool is_first = true;; is_first = false) {
    const auto arrow = symbol.find("->");
    push(clean_name(symbol.substr(0, arrow)) + (is_first ? "_[j]" : "_[i]"));
    if (arrow == std::string_view::npos) break;
    symbol.remove_prefix(arrow + 2);
  }
  std::reverse(leaf_first_.begin() + static_cast<std::ptrdiff_t>(first), leaf_first_.end());
}

result<void> perf_folder::close() {
  if (!std::exchange(open_, false) || !wanted_) return {};
  auto& report = out_.report;
  std::vector<stack_set::frame_id> stack{root_};
  if (frames_ >= options_.sampler_depth) {
    stack.push_back(out_.stacks.intern("[truncated]"));
    ++report.truncated;
  }
  for (auto at = leaf_first_.rbegin(); at != leaf_first_.rend(); ++at)
    if (!options_.merge_recursion || stack.back() != *at) stack.push_back(*at);
  ++report.samples;
  if (has_unresolved_) ++report.unresolved_jit;
  if (has_ambiguous_) ++report.ambiguous_jit;
  return out_.stacks.add(stack, weight());
}

std::uint64_t perf_folder::weight() {
  if (options_.count == fold_options::weight::samples) return 1;
  if (options_.count == fold_options::weight::period) return period_;
  // Time since the last sample of any thread, in microseconds; the first one counts nothing.
  const double delta = last_seconds_ < 0 ? 0 : seconds_ - last_seconds_;
  last_seconds_ = seconds_;
  if (delta < 0) ++out_.report.negative_deltas;
  return delta > 0 ? static_cast<std::uint64_t>(std::llround(delta * 1e6)) : 0;
}

result<void> perf_feed::on_bytes(std::string_view bytes) {
  constexpr std::size_t line_bytes_max = 1u << 20;
  for (;;) {
    const auto end = bytes.find('\n');
    if (end == std::string_view::npos) {
      if (rest_.size() < line_bytes_max) rest_.append(bytes);
      return {};
    }
    rest_.append(bytes.substr(0, end));
    bytes.remove_prefix(end + 1);
    if (auto taken = folder_.on_line(rest_, ++number_); !taken) return taken;
    rest_.clear();
  }
}

result<void> perf_feed::finish() {
  return rest_.empty() ? result<void>{} : folder_.on_line(rest_, ++number_);
}

result<folding> fold_perf(std::string_view input, const fold_options& options) {
  perf_folder folder{options};
  line_reader lines{input};
  for (std::string_view line; lines.next(line);)
    if (auto taken = folder.on_line(line, lines.number()); !taken) return fail(taken.error());
  return folder.finish();
}

}  // namespace ntrace::profiler
