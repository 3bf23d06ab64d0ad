#pragma once
// CPUs by number, as the kernel writes lists of them: "0-3,8" (cpuset(7), "List format"). Pure.
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace ntrace::zone {

inline constexpr int cpus_max = 1024;  ///< sched_setaffinity(2): what a cpu_set_t holds.

std::string format_cpu_list(const std::vector<int>& cpus);
/// Empty for what is no list, or names a CPU beyond cpus_max.
std::vector<int> parse_cpu_list(std::string_view text);

/// The CPUs of a zone that may use `percent` of one: as many as that takes, those with the fewest
/// zones (`load`, by number), and among equals by `seed`, so that the runners of a machine do not
/// all take the first. Empty when there are no more than it takes: then it has them all.
std::vector<int> choose_cpus(const std::vector<int>& allowed, const std::map<int, unsigned>& load,
                             std::uint64_t percent, std::size_t seed);

}  // namespace ntrace::zone
