#include "actors/zone/linux/cpu_list.hpp"

#include <algorithm>
#include <charconv>

namespace ntrace::zone {

std::string format_cpu_list(const std::vector<int>& cpus) {
  std::string out;
  for (std::size_t i = 0; i < cpus.size();) {
    auto end = i + 1;
    while (end < cpus.size() && cpus[end] == cpus[end - 1] + 1) ++end;
    out += (out.empty() ? "" : ",") + std::to_string(cpus[i]);
    if (end > i + 1) out += "-" + std::to_string(cpus[end - 1]);
    i = end;
  }
  return out;
}

std::vector<int> parse_cpu_list(std::string_view text) {
  std::vector<int> out;
  const auto* at = text.data();
  const auto* const end = at + text.size();
  const auto number = [&](int& value) {
    const auto read = std::from_chars(at, end, value);
    at = read.ptr;
    return read.ec == std::errc{} && value >= 0 && value < cpus_max;
  };
  while (at != end) {
    int first = 0;
    if (!number(first)) return {};
    int last = first;
    if (at != end && *at == '-' && (++at, !number(last) || last < first)) return {};
    for (int cpu = first; cpu <= last; ++cpu) out.push_back(cpu);
    if (at != end && (*at++ != ',' || at == end)) return {};
  }
  return out;
}

std::vector<int> choose_cpus(const std::vector<int>& allowed, const std::map<int, unsigned>& load,
                             std::uint64_t percent, std::size_t seed) {
  const auto wanted = std::max<std::uint64_t>((percent + 99) / 100, 1);
  if (wanted >= allowed.size()) return {};
  auto out = allowed;
  std::rotate(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(seed % out.size()), out.end());
  std::stable_sort(out.begin(), out.end(), [&](int a, int b) {
    const auto of = [&](int cpu) { return load.count(cpu) != 0 ? load.at(cpu) : 0; };
    return of(a) < of(b);
  });
  out.resize(static_cast<std::size_t>(wanted));
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace ntrace::zone
