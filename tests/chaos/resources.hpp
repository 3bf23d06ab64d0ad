#pragma once
// What the processes of a chaos run hold over time, and whether that grows.
#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/chaos/fleet.hpp"

namespace ntrace::chaos {

/// Of one process; a new incarnation starts from nothing.
class resources {
public:
  /// Its memory, descriptors, threads and zombies now, and what is used on its disk.
  void sample(const process& of, const std::string& disk);
  /// {"name", "samples", and of each [median of the first quarter, of the last, most]}.
  nlohmann::json summary(const std::string& name) const;
  /// What grew over a long life; empty when nothing did.
  std::string growth() const;

private:
  static constexpr std::array<const char*, 5> names{"rss_kib", "descriptors", "threads", "zombies",
                                                    "disk_kib"};
  std::int64_t median(std::size_t what, std::size_t from, std::size_t to) const;
  std::int64_t first(std::size_t what) const { return median(what, 0, all_.size() / 4 + 1); }
  std::int64_t last(std::size_t what) const {
    return median(what, all_.size() - all_.size() / 4 - 1, all_.size());
  }
  std::int64_t most(std::size_t what) const;

  int pid_ = -1;
  std::vector<std::array<std::int64_t, names.size()>> all_;  ///< A sample a second.
};

}  // namespace ntrace::chaos
