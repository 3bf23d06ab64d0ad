#include "tests/chaos/zone_census.hpp"

#include <filesystem>
#include <optional>
#include <sstream>

#include "actors/zone/linux/cgroup.hpp"
#include "config/file.hpp"
#include "tests/chaos/process.hpp"
#include "tests/support/leftovers.hpp"

namespace ntrace::chaos {
namespace {

namespace fs = std::filesystem;

const std::string& hierarchy() {
  static const auto top =
      zone::parse_cgroup_layout(read_file("/proc/self/mountinfo").value_or("")).v2;
  return top;
}

std::string proc(int pid, const char* file) {
  return read_file("/proc/" + std::to_string(pid) + "/" + file).value_or("");
}

/// Nothing for one that has ended; proc(5), fields 3 and 22 of stat.
std::optional<process_id> alive_as(int pid) {
  const auto stat = proc(pid, "stat");
  std::istringstream rest{stat.substr(std::min(stat.rfind(')') + 1, stat.size()))};
  std::string word;
  rest >> word;
  if (!rest || word == "Z" || word == "X") return {};
  for (int field = 4; field <= 22; ++field) rest >> word;
  return process_id{pid, std::strtoull(word.c_str(), nullptr, 10)};
}

/// The repository that a process of a job works on: its PATH begins with /job/NAME.
std::string repository_of(int pid, const std::string& mark) {
  const auto environment = proc(pid, "environ");
  const auto job = "/job/" + mark;
  const auto at = environment.find(job);
  if (at == std::string::npos) return {};
  const auto from = at + job.size() - mark.size();
  return environment.substr(from, environment.find('/', from) - from);
}

/// The process that a watchdog holds by a pidfd; its first one is init's.
int held_by(int watchdog) {
  std::error_code gone;
  for (const auto& fd :
       fs::directory_iterator{"/proc/" + std::to_string(watchdog) + "/fdinfo", gone}) {
    const auto text = read_file(fd.path().string()).value_or("");
    const auto at = text.find("\nPid:");
    if (at != std::string::npos) return std::atoi(text.c_str() + at + 5);
  }
  return -1;
}

std::string group_of(int pid) {
  const auto groups = proc(pid, "cgroup");
  const auto at = groups.find("/ntrace/");
  return at == std::string::npos ? "" : groups.substr(at, groups.find('\n', at) - at);
}

}  // namespace

bool is_alive(const process_id& which) { return alive_as(which.pid) == which; }

std::vector<leased_zone> leased_zones(int helper) {
  std::vector<leased_zone> out;
  for (const int watchdog : test::descendants(helper, "ntrace-watchdog")) {
    const int init = held_by(watchdog);
    if (auto group = init > 0 ? group_of(init) : ""; !group.empty())
      out.push_back({std::move(group), init});
  }
  return out;
}

std::vector<process_id> living_in(const std::string& group) {
  std::vector<process_id> out;
  std::istringstream pids{read_file(hierarchy() + group + "/cgroup.procs").value_or("")};
  for (int pid = 0; pids >> pid;)
    if (const auto one = alive_as(pid)) out.push_back(*one);
  return out;
}

zone_census::zone_census(std::string mark)
    : mark_{std::move(mark)}, looker_{[this] {
        while (!is_over_) {
          look();
          ++looks_;
          wait_a_little();
        }
      }} {}

void zone_census::end() {
  is_over_ = true;
  if (looker_.joinable()) looker_.join();
}

void zone_census::look() {
  std::map<std::string, std::pair<std::string, process_id>> first;
  std::error_code gone;
  for (const auto& entry : fs::directory_iterator{hierarchy() + "/ntrace", gone}) {
    if (!entry.is_directory(gone)) continue;
    const auto group = "/ntrace/" + entry.path().filename().string();
    for (const auto& one : living_in(group)) {
      const auto repository = repository_of(one.pid, mark_);
      if (repository.empty()) continue;
      seen_.insert(repository);
      const auto [at, is_new] = first.try_emplace(repository, group, one);
      const auto& [other_group, other] = at->second;
      if (is_new || other_group == group) continue;
      // Looks come one after the other: the first one must still be there after the second was.
      if (is_alive(other))
        doubles_.try_emplace(repository, "process " + std::to_string(other.pid) + " in " +
                                             other_group + " and process " +
                                             std::to_string(one.pid) + " in " + group);
    }
  }
}

}  // namespace ntrace::chaos
