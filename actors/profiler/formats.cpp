#include "actors/profiler/formats.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "config/utf8.hpp"

namespace ntrace::profiler {
namespace {

/// Each stack with a count, root first, in the order of the folded lines.
std::vector<std::pair<std::vector<stack_set::frame_id>, std::uint64_t>> stacks_in_order(
    const stack_set& stacks) {
  const auto& nodes = stacks.nodes();
  std::vector<std::pair<std::string, std::pair<std::vector<stack_set::frame_id>, std::uint64_t>>>
      all;
  for (stack_set::node_id n = 1; n < nodes.size(); ++n) {
    if (nodes[n].self == 0) continue;
    std::vector<stack_set::frame_id> path;
    for (auto at = n; at != 0; at = nodes[at].parent) path.push_back(nodes[at].frame);
    std::reverse(path.begin(), path.end());
    std::string key;
    for (const auto frame : path) key += stacks.name(frame) + ";";
    all.emplace_back(std::move(key), std::pair{std::move(path), nodes[n].self});
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::pair<std::vector<stack_set::frame_id>, std::uint64_t>> out;
  out.reserve(all.size());
  for (auto& [key, value] : all) out.push_back(std::move(value));
  return out;
}

/// A protobuf message under construction (protobuf.dev, "Encoding").
class message {
public:
  void number(unsigned field, std::uint64_t value) {
    varint(field << 3);
    varint(value);
  }
  void bytes(unsigned field, std::string_view value) {
    varint(field << 3 | 2);
    varint(value.size());
    out_.append(value);
  }
  void packed(unsigned field, const std::vector<std::uint64_t>& values) {
    message inner;
    for (const auto v : values) inner.varint(v);
    bytes(field, inner.out_);
  }
  const std::string& text() const { return out_; }

private:
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) out_.push_back(static_cast<char>(value | 0x80));
    out_.push_back(static_cast<char>(value));
  }
  std::string out_;
};

/// "name file:line:col" of a JavaScript frame in its parts.
struct frame_place {
  std::string name, file;
  std::uint64_t line = 0;
};

/// Only names of JIT frames have a place; in others a colon is part of the name.
frame_place place_of(const std::string& frame) {
  std::string_view rest = frame;
  for (const char* mark : {"_[j]", "_[k]", "_[i]"})
    if (rest.ends_with(mark)) rest.remove_suffix(4);
  const auto blank = rest.rfind(' ');
  if (blank == std::string_view::npos || !frame.ends_with("_[j]")) return {frame, "", 0};
  auto where = rest.substr(blank + 1);
  frame_place out{frame, "", 0};
  const auto column = where.rfind(':');
  const auto line = column == std::string_view::npos ? column : where.rfind(':', column - 1);
  if (line == std::string_view::npos) return out;
  std::from_chars(where.data() + line + 1, where.data() + column, out.line);
  out.file = std::string{where.substr(0, line)};
  return out;
}

}  // namespace

std::string percent_text(std::uint64_t part, std::uint64_t whole) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f%%",
                whole == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole));
  return text;
}

std::string hottest_table(const stack_set& stacks, std::size_t rows, std::size_t width) {
  std::string out = "  self   total  frame\n";
  for (const auto& row : hottest_frames(stacks, rows)) {
    char numbers[40];
    std::snprintf(numbers, sizeof numbers, "%6s  %6s  ",
                  percent_text(row.self, stacks.total()).c_str(),
                  percent_text(row.total, stacks.total()).c_str());
    auto name = row.name;
    const std::size_t room = width > 20 ? width - 16 : std::string::npos;
    std::size_t chars = 0, at = 0;
    for (; at < name.size() && chars < room; ++chars) do
        ++at;
      while (at < name.size() && is_continuation(name[at]));
    if (at < name.size()) name = name.substr(0, at - 1) + "…";
    out += numbers + name + "\n";
  }
  return out;
}

std::string speedscope_json(const stack_set& stacks, std::string_view name) {
  nlohmann::json frames = nlohmann::json::array();
  for (stack_set::frame_id f = 0; f < stacks.frame_count(); ++f)
    frames.push_back({{"name", stacks.name(f)}});
  nlohmann::json samples = nlohmann::json::array(), weights = nlohmann::json::array();
  for (const auto& [path, count] : stacks_in_order(stacks)) {
    samples.push_back(path);
    weights.push_back(count);
  }
  nlohmann::json out{{"$schema", "https://www.speedscope.app/file-format-schema.json"},
                     {"exporter", "ntrace"},
                     {"name", name},
                     {"activeProfileIndex", 0},
                     {"shared", {{"frames", frames}}},
                     {"profiles",
                      {{{"type", "sampled"},
                        {"name", name},
                        {"unit", "none"},
                        {"startValue", 0},
                        {"endValue", stacks.total()},
                        {"samples", samples},
                        {"weights", weights}}}}};
  return out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string pprof_bytes(const stack_set& stacks, std::uint64_t frequency) {
  // github.com/google/pprof, proto/profile.proto
  std::map<std::string, std::uint64_t> ids;
  std::vector<std::string> strings;
  const auto text = [&](const std::string& s) {
    const auto [at, is_new] = ids.try_emplace(s, strings.size());
    if (is_new) strings.push_back(s);
    return at->second;
  };
  text("");
  const std::uint64_t period_ns = 1'000'000'000 / std::max<std::uint64_t>(frequency, 1);
  message out;
  const auto value_type = [&](const char* type, const char* unit) {
    message m;
    m.number(1, text(type));
    m.number(2, text(unit));
    return m.text();
  };
  out.bytes(1, value_type("samples", "count"));
  out.bytes(1, value_type("cpu", "nanoseconds"));
  for (const auto& [path, count] : stacks_in_order(stacks)) {
    std::vector<std::uint64_t> locations;
    for (auto at = path.rbegin(); at != path.rend(); ++at) locations.push_back(*at + 1u);
    message sample;
    sample.packed(1, locations);
    sample.packed(2, {count, count * period_ns});
    out.bytes(2, sample.text());
  }
  for (stack_set::frame_id f = 0; f < stacks.frame_count(); ++f) {
    const auto place = place_of(stacks.name(f));
    message line, location, function;
    line.number(1, f + 1u);
    line.number(2, place.line);
    location.number(1, f + 1u);
    location.bytes(4, line.text());
    out.bytes(4, location.text());
    function.number(1, f + 1u);
    function.number(2, text(place.name));
    function.number(3, text(place.name));
    function.number(4, text(place.file));
    out.bytes(5, function.text());
  }
  const auto period_type = value_type("cpu", "nanoseconds");
  for (const auto& s : strings) out.bytes(6, s);
  out.number(10, stacks.total() * period_ns);
  out.bytes(11, period_type);
  out.number(12, period_ns);
  return out.text();
}

}  // namespace ntrace::profiler
