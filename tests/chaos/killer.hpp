#pragma once
// The seeded killer: which fault strikes whom, for how long, and when all is well again.
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "config/random.hpp"
#include "tests/chaos/faults.hpp"

namespace ntrace::chaos {

struct struck {
  std::string kind;
  std::size_t node = 0;
  milliseconds at{0}, lasted{0};  ///< Since the start of the run.
  /// From the end of the fault until it was well and stayed so; -1: never.
  milliseconds recovered{-1};
};

class killer {
public:
  /// `only`: names of kinds; empty: all.
  killer(fleet& victims, std::uint64_t seed, time_point began,
         const std::vector<std::string>& only);
  ~killer();
  killer(const killer&) = delete;
  killer& operator=(const killer&) = delete;

  /// Strikes one node that has no fault now, if there is one; returns at once.
  void strike();
  /// Waits until every fault is over, and all that it broke is well again or given up.
  void wait();

  /// What happened so far; complete after wait().
  std::vector<struck> log() const;
  /// Faults that could not be caused, and why.
  std::vector<std::pair<std::string, std::string>> failed() const;
  /// Faults that we could not repair, and why: what followed is not the fleet's fault.
  std::vector<std::string> unmended() const;
  /// Processes that ended though nobody had ended them.
  std::vector<std::string> deaths() const;
  /// What the fleet did in answer to a fault that it never may.
  std::vector<broken_rule> broken() const;
  /// Kinds that this machine lacks something for.
  std::vector<std::pair<std::string, std::string>> skipped() const { return skipped_; }

  /// Empty, or the first of `names` that is no kind.
  static std::string unknown(const std::vector<std::string>& names);

private:
  void carry_out(const kind_of_fault& what, std::size_t node, std::uint64_t seed);
  bool is_well_after(std::size_t node) const;
  std::optional<std::size_t> free_node(const std::vector<std::size_t>& of);

  fleet& victims_;
  random_source random_;
  time_point began_;
  std::vector<const kind_of_fault*> usable_;
  std::vector<const kind_of_fault*>
      round_;  ///< Those that are still to come before any comes again.
  std::vector<std::pair<std::string, std::string>> skipped_;
  mutable std::mutex mutex_;
  std::vector<bool> is_struck_;
  std::vector<struck> log_;
  std::vector<std::pair<std::string, std::string>> failed_;
  std::vector<std::string> deaths_, unmended_;
  std::vector<broken_rule> broken_;
  std::vector<std::thread> threads_;
};

}  // namespace ntrace::chaos
