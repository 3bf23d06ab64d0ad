#pragma once
// What is alive in zones, as the kernel has it: neither a runner nor a helper is asked.
#include <atomic>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace ntrace::chaos {

/// A process for as long as it lives: its number may be given out again.
struct process_id {
  int pid = 0;
  std::uint64_t started = 0;
  bool operator==(const process_id&) const = default;
};
/// False once it has ended, also where nobody has waited for it.
bool is_alive(const process_id& which);

/// A zone that holds a lease: its control group as its init is in it, "/ntrace/…".
struct leased_zone {
  std::string group;
  int init = -1;
};
/// Those whose end the watchdogs below the process `helper` hold.
std::vector<leased_zone> leased_zones(int helper);
/// All processes of the control group that are alive.
std::vector<process_id> living_in(const std::string& group);

/// Looks over and over whether two zones of this machine work on one source. Each push of a load
/// has a repository of its own, so that would be two attempts of one run.
class zone_census {
public:
  /// `mark`: what the names of our repositories begin with.
  explicit zone_census(std::string mark);
  ~zone_census() { end(); }
  zone_census(const zone_census&) = delete;
  zone_census& operator=(const zone_census&) = delete;

  /// No more looks; what was seen is complete.
  void end();
  /// Repositories that two zones worked on at once, and how they were seen.
  const std::map<std::string, std::string>& doubles() const { return doubles_; }
  /// How often all zones were looked at so far.
  std::uint64_t looks() const { return looks_; }
  /// Repositories that were seen at work at all.
  std::size_t seen() const { return seen_.size(); }

private:
  void look();

  std::string mark_;
  std::set<std::string> seen_;
  std::map<std::string, std::string> doubles_;
  std::atomic<bool> is_over_{false};
  std::atomic<std::uint64_t> looks_{0};
  std::thread looker_;
};

}  // namespace ntrace::chaos
