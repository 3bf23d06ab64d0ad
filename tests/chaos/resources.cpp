#include "tests/chaos/resources.hpp"

#include <sys/statvfs.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "config/file.hpp"

namespace ntrace::chaos {
namespace {

std::size_t entries(const std::string& folder) {
  std::error_code gone;
  std::size_t out = 0;
  for ([[maybe_unused]] const auto& one : std::filesystem::directory_iterator{folder, gone}) ++out;
  return out;
}

/// Children that ended and were not waited for.
std::int64_t zombies_of(const std::string& proc) {
  std::error_code gone;
  std::int64_t out = 0;
  for (const auto& task : std::filesystem::directory_iterator{proc + "/task", gone}) {
    std::istringstream children{read_file(task.path().string() + "/children").value_or("")};
    for (std::string pid; children >> pid;) {
      const auto stat = read_file("/proc/" + pid + "/stat").value_or("");
      const auto at = stat.rfind(") ");
      if (at != std::string::npos && stat.compare(at, 3, ") Z") == 0) ++out;
    }
  }
  return out;
}

std::int64_t kib_used(const std::string& disk) {
  struct statvfs facts {};
  if (::statvfs(disk.c_str(), &facts) != 0) return 0;
  return static_cast<std::int64_t>((facts.f_blocks - facts.f_bfree) * facts.f_frsize / 1024);
}

}  // namespace

void resources::sample(const process& of, const std::string& disk) {
  const int pid = of.pid();
  if (pid <= 0) return;
  if (pid != pid_) all_.clear();
  pid_ = pid;
  const auto proc = "/proc/" + std::to_string(pid);
  const auto status = read_file(proc + "/status").value_or("");
  const auto at = status.find("VmRSS:");
  const auto rss = at == std::string::npos ? 0 : std::strtoll(status.c_str() + at + 6, nullptr, 10);
  if (rss > 0)
    all_.push_back({rss, static_cast<std::int64_t>(entries(proc + "/fd")),
                    static_cast<std::int64_t>(entries(proc + "/task")), zombies_of(proc),
                    kib_used(disk)});
}

nlohmann::json resources::summary(const std::string& name) const {
  nlohmann::json out{{"name", name}, {"samples", all_.size()}};
  for (std::size_t what = 0; what < names.size(); ++what)
    out[names[what]] = {first(what), last(what), most(what)};
  return out;
}

std::string resources::growth() const {
  constexpr std::size_t long_life = 300;
  // The disk holds what was pushed, and is bounded by itself.
  constexpr std::array<std::int64_t, 4> slack{16 << 10, 32, 16, 8};
  if (all_.size() < long_life) return "";
  std::string out;
  for (std::size_t what = 0; what < slack.size(); ++what)
    if (last(what) > first(what) + first(what) / 5 + slack[what])
      out += std::to_string(first(what)) + " became " + std::to_string(last(what)) + " " +
             names[what] + "; ";
  return out;
}

std::int64_t resources::median(std::size_t what, std::size_t from, std::size_t to) const {
  std::vector<std::int64_t> part;
  for (auto i = from; i < std::min(to, all_.size()); ++i) part.push_back(all_[i][what]);
  if (part.empty()) return 0;
  std::nth_element(part.begin(), part.begin() + static_cast<std::ptrdiff_t>(part.size() / 2),
                   part.end());
  return part[part.size() / 2];
}

std::int64_t resources::most(std::size_t what) const {
  std::int64_t out = 0;
  for (const auto& one : all_) out = std::max(out, one[what]);
  return out;
}

}  // namespace ntrace::chaos
