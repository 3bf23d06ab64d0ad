#include "actors/profiler/perf_map.hpp"

#include <charconv>
#include <iterator>

namespace ntrace::profiler {
namespace {

constexpr std::uint64_t size_max = 16u << 20;
constexpr std::size_t name_bytes_max = 4096;

bool take_hex(std::string_view& line, std::uint64_t& out) {
  if (line.starts_with("0x")) line.remove_prefix(2);
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), out, 16);
  if (error != std::errc{} || end == line.data()) return false;
  line.remove_prefix(static_cast<std::size_t>(end - line.data()));
  if (line.empty() || line.front() != ' ') return false;
  line.remove_prefix(1);
  return true;
}

}  // namespace

void perf_map::add(std::string_view text) {
  while (!text.empty()) {
    const auto end_of_line = text.find('\n');
    if (end_of_line == std::string_view::npos) {
      ++skipped_;  // Cut in the middle of a write.
      return;
    }
    auto line = text.substr(0, end_of_line);
    text.remove_prefix(end_of_line + 1);
    std::uint64_t start = 0;
    std::uint64_t size = 0;
    if (!take_hex(line, start) || !take_hex(line, size) || size == 0 || size > size_max ||
        start + size < start || line.empty()) {
      ++skipped_;
      continue;
    }
    insert(start, start + size, std::string{line.substr(0, name_bytes_max)});
  }
}

void perf_map::insert(std::uint64_t start, std::uint64_t end, std::string name) {
  bool is_ambiguous = false;
  auto at = entries_.upper_bound(start);
  if (at != entries_.begin() && std::prev(at)->second.end > start) --at;
  while (at != entries_.end() && at->first < end) {
    auto old = std::move(at->second);
    const auto old_start = at->first;
    is_ambiguous = is_ambiguous || old.name != name || old.is_ambiguous;
    at = entries_.erase(at);
    if (old_start < start) entries_[old_start] = {start, old.name, old.is_ambiguous};
    if (old.end > end) at = entries_.emplace(end, entry{old.end, old.name, old.is_ambiguous}).first;
  }
  entries_[start] = {end, std::move(name), is_ambiguous};
}

perf_map::symbol perf_map::find(std::uint64_t address) const {
  auto at = entries_.upper_bound(address);
  if (at == entries_.begin()) return {};
  --at;
  if (address >= at->second.end) return {};
  return {at->second.name, at->second.is_ambiguous};
}

void kernel_symbols::add(std::string_view kallsyms) {
  while (!kallsyms.empty()) {
    const auto end = kallsyms.find('\n');
    auto line = kallsyms.substr(0, end);
    kallsyms.remove_prefix(end == std::string_view::npos ? kallsyms.size() : end + 1);
    std::uint64_t address = 0;
    if (!take_hex(line, address) || address == 0 || line.size() < 3) continue;
    const char type = line[0];
    if (type != 't' && type != 'T' && type != 'w' && type != 'W') continue;
    line.remove_prefix(2);
    std::string name{line.substr(0, line.find('\t'))};
    names_.emplace(address, std::move(name));
  }
}

std::string kernel_symbols::find(std::uint64_t address) const {
  auto at = names_.upper_bound(address);
  return at == names_.begin() ? std::string{} : std::prev(at)->second;
}

}  // namespace ntrace::profiler
