#include "actors/zone/linux/zone_sights.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "actors/zone/linux/cpu_list.hpp"

namespace ntrace::zone {
namespace {

/// In a file system that was just mounted, where nobody else has been.
bool put_file(const std::string& path, std::string_view content) {
  for (auto at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1))
    if (::mkdir(path.substr(0, at).c_str(), 0755) != 0 && errno != EEXIST) return false;
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
  const auto size = static_cast<ssize_t>(content.size());
  return fd >= 0 && ::write(fd, content.data(), content.size()) == size && ::close(fd) == 0;
}

bool stay_on(std::string_view cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : parse_cpu_list(cpus)) CPU_SET(static_cast<unsigned>(cpu), &set);
  return ::sched_setaffinity(0, sizeof set, &set) == 0;
}

}  // namespace

const char* show_sights(std::string_view cpus) {
  if (!put_file(std::string{node_module_file}, node_module)) return "write the module for Node";
  if (cpus.empty()) return nullptr;
  if (!stay_on(cpus)) return "stay on the zone's CPUs";
  ::chmod("/sys", 0755);  // An OCI runtime gives it the mode of the folder below.
  if (!put_file(std::string{online_cpus_file}, std::string{cpus} + "\n"))
    return "write the list of CPUs";
  return nullptr;
}

}  // namespace ntrace::zone
