#pragma once
// What runs and lies on the machine because of us. Without a test framework, for chaos runs, too.
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "config/file.hpp"

namespace ntrace::test {

/// What zones below `data` have left on the machine: mounts, cgroups, processes. Empty when clean.
inline std::string leftovers(const std::string& data) {
  std::string out;
  std::istringstream mounts{read_file("/proc/self/mountinfo").value_or("")};
  for (std::string line; std::getline(mounts, line);)
    if (line.find(data + "/") != std::string::npos) out += "mount: " + line + "\n";
  std::error_code ignored;
  std::vector<std::string> uuids;
  for (const auto& zone : std::filesystem::directory_iterator{data + "/zones", ignored})
    uuids.push_back(zone.path().filename());
  for (const auto& base : std::filesystem::directory_iterator{"/sys/fs/cgroup", ignored})
    for (const auto& group : std::filesystem::directory_iterator{base.path() / "ntrace", ignored})
      for (const auto& uuid : uuids)
        if (group.path().filename().string().starts_with(uuid))
          out += "cgroup: " + group.path().string() + "\n";
  for (const auto& process : std::filesystem::directory_iterator{"/proc", ignored}) {
    const auto cmdline = read_file(process.path().string() + "/cmdline").value_or("");
    if (cmdline.find(data) != std::string::npos && cmdline.find("test") == std::string::npos)
      out += "process: " + process.path().string() + " " + cmdline + "\n";
  }
  return out;
}

/// Children of `pid` by name, theirs included, for finding a zone's init.
inline std::vector<int> descendants(int pid, const std::string& name) {
  std::vector<int> out;
  std::error_code ignored;
  for (const auto& task :
       std::filesystem::directory_iterator{"/proc/" + std::to_string(pid) + "/task", ignored}) {
    std::istringstream in{read_file(task.path().string() + "/children").value_or("")};
    for (int child = 0; in >> child;) {
      if (read_file("/proc/" + std::to_string(child) + "/comm").value_or("") == name + "\n")
        out.push_back(child);
      for (const int deeper : descendants(child, name)) out.push_back(deeper);
    }
  }
  return out;
}

}  // namespace ntrace::test
