#include "actors/zone/linux/survivors.hpp"

#include <dirent.h>
#include <unistd.h>

#include <charconv>
#include <ctime>
#include <sstream>
#include <vector>

#include "actors/zone/linux/cgroup.hpp"
#include "config/file.hpp"

namespace ntrace::zone {
namespace {

constexpr std::size_t named_max = 3;

std::string read_text(const std::string& path) { return read_file(path, 1u << 16).value_or(""); }

/// False for a zombie, which only waits to be reaped, and for what is gone.
bool describe(int pid, std::string& out) {
  const auto folder = "/proc/" + std::to_string(pid);
  const auto stat = read_text(folder + "/stat");
  const auto open = stat.find('('), close = stat.rfind(')');
  if (open == std::string::npos || close == std::string::npos) return false;
  std::istringstream rest{stat.substr(close + 1)};
  std::string state, skipped;
  rest >> state;
  if (state == "Z" || state == "X") return false;
  for (int field = 4; field < 22; ++field) rest >> skipped;
  long long started = 0;  // field 22, in ticks since the machine's start
  rest >> started;
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  const auto age = now.tv_sec - started / ::sysconf(_SC_CLK_TCK);
  auto wait = read_text(folder + "/wchan");
  out = std::to_string(pid) + " " + stat.substr(open, close - open + 1) +
        (state == "D" ? " in an uninterruptible wait" : " in state " + state) +
        (wait.empty() || wait == "0" ? "" : " at " + wait) + ", started " + std::to_string(age) +
        " s ago";
  return true;
}

/// Not by cgroup.procs: listing the members of a v1 group holds it for another second.
std::vector<int> members(const std::string& path) {
  std::vector<int> out;
  DIR* entries = ::opendir("/proc");
  while (const dirent* entry = entries ? ::readdir(entries) : nullptr) {
    const std::string_view digits{entry->d_name};
    int pid = 0;
    if (std::from_chars(digits.data(), digits.data() + digits.size(), pid).ec != std::errc{})
      continue;
    std::istringstream lines{read_text("/proc/" + std::string{digits} + "/cgroup")};
    for (std::string line; std::getline(lines, line);)
      if (line.ends_with(path)) {
        out.push_back(pid);
        break;
      }
  }
  if (entries) ::closedir(entries);
  return out;
}

}  // namespace

std::string survivors(const std::string& name, int init) {
  std::string out, one;
  std::size_t count = 0;
  for (const int pid : members(zone_cgroup::path_of(name)))
    // Init only waits for the others.
    if (pid != init && describe(pid, one) && ++count <= named_max)
      out += (out.empty() ? "" : "; ") + one;
  if (count > named_max) out += "; and " + std::to_string(count - named_max) + " more";
  if (count == 0 && init > 0 && describe(init, one)) out = one;
  return out;
}

}  // namespace ntrace::zone
