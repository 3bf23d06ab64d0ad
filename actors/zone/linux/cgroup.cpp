#include "actors/zone/linux/cgroup.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <sstream>

#include "config/clock.hpp"
#include "config/crash_point.hpp"

namespace ntrace::zone {
namespace {

constexpr std::string_view parent = "/ntrace/";
constexpr std::uint64_t socket_share = 8;  // of its memory, as much again for a zone's sockets
/// Of these a zone has groups of its own. The last two limit nothing; but the JVM believes no limit
/// where it does not find all but `pids`.
constexpr std::array v1_controllers{"memory", "pids", "cpu", "cpuacct", "cpuset"};
constexpr int hold_tries_max = 16;  // each lost to a helper that ended in that very moment
constexpr auto reap_deadline = std::chrono::seconds{10};  // docs/zones.md, "Exec, and the end"

std::string read_text(const std::string& path) { return read_file(path, 1u << 20).value_or(""); }

bool write_text(const std::string& path, std::string_view text) {
  const unique_fd fd{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
  return fd && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

using limit_files = std::vector<std::pair<std::string, std::string>>;

/// Writes a limit and reads it back; the kernel rounds memory down to pages.
result<void> set_limit(const std::string& path, std::uint64_t value, limit_files& held) {
  std::uint64_t seen = 0;
  if (write_text(path, std::to_string(value))) {
    const auto text = read_text(path);
    std::from_chars(text.data(), text.data() + text.size(), seen);
    held.emplace_back(path, text);
  }
  if (seen != value && seen != value / 4096 * 4096)
    return fail(ec::zone_failed, "the limit " + path + " = " + std::to_string(value) +
                                     " does not hold: it reads " + std::to_string(seen));
  return {};
}

std::vector<int> members(const std::string& path) {
  std::vector<int> out;
  std::istringstream in{read_text(path + "/cgroup.procs")};
  for (int pid = 0; in >> pid;) out.push_back(pid);
  return out;
}

std::vector<std::string> bases(const cgroup_layout& layout) {
  std::vector<std::string> out;
  if (!layout.v2.empty()) out.push_back(layout.v2);
  for (const char* controller : v1_controllers) {
    const auto at = layout.v1.find(controller);
    if (at != layout.v1.end() && std::find(out.begin(), out.end(), at->second) == out.end())
      out.push_back(at->second);
  }
  return out;
}

/// True when one of the controllers, with commas between them, is one that we limit by in v1.
bool is_limited_by(const cgroup_layout& layout, const std::string& controllers) {
  std::istringstream words{controllers};
  for (std::string word; std::getline(words, word, ',');)
    if (layout.v1.count(word) != 0) return true;
  return false;
}

void enable_v2_controllers(const cgroup_layout& layout) {
  for (const std::string controller : {"memory", "pids", "cpu"}) {
    if (layout.v1.count(controller) != 0) continue;
    // Where this fails, set_limit() does too, and says so.
    write_text(layout.v2 + "/cgroup.subtree_control", "+" + controller);
    write_text(layout.v2 + "/ntrace/cgroup.subtree_control", "+" + controller);
  }
}

result<void> limit_memory(const cgroup_layout& layout, const std::string& name,
                          const std::string& v2, std::uint64_t bytes, std::string& memory_path,
                          limit_files& held) {
  if (layout.in_v2("memory")) {
    memory_path = v2;
    if (auto set = set_limit(v2 + "/memory.max", bytes, held); !set) return set;
    write_text(v2 + "/memory.swap.max", "0");  // Absent without swap: nothing to limit.
    return {};
  }
  const auto at = layout.v1.find("memory");
  if (at == layout.v1.end()) return fail(ec::zone_failed, "this machine has no memory controller");
  memory_path = at->second + std::string{parent} + name;
  if (auto set = set_limit(memory_path + "/memory.limit_in_bytes", bytes, held); !set) return set;
  if (!write_text(memory_path + "/memory.memsw.limit_in_bytes", std::to_string(bytes)))
    write_text(memory_path + "/memory.swappiness", "0");
  // Of a machine's buffers for TCP and UDP, net.ipv4.tcp_mem, v1 charges nobody unless it is told.
  const auto sockets = memory_path + "/memory.kmem.tcp.limit_in_bytes";
  if (::access(sockets.c_str(), F_OK) == 0) return set_limit(sockets, bytes / socket_share, held);
  return {};
}

result<void> limit_pids_and_cpu(const cgroup_layout& layout, const std::string& name,
                                const std::string& v2, const cgroup_limits& limits,
                                limit_files& held) {
  constexpr std::uint64_t period_us = 100'000;  // the kernel's default
  const auto quota_us = limits.cpu_percent * period_us / 100;
  const auto v1_path = [&](const char* controller) {
    return layout.v1.at(controller) + std::string{parent} + name;
  };
  if (layout.in_v2("pids")) {
    if (auto set = set_limit(v2 + "/pids.max", limits.pids, held); !set) return set;
  } else if (layout.v1.count("pids") != 0) {
    if (auto set = set_limit(v1_path("pids") + "/pids.max", limits.pids, held); !set) return set;
  } else {
    return fail(ec::zone_failed, "this machine has no pids controller");
  }
  if (layout.in_v2("cpu")) {
    if (!write_text(v2 + "/cpu.max", std::to_string(quota_us) + " " + std::to_string(period_us)))
      return fail(io_error("write", v2 + "/cpu.max", errno));
    held.emplace_back(v2 + "/cpu.max", read_text(v2 + "/cpu.max"));
  } else if (layout.v1.count("cpu") != 0) {
    return set_limit(v1_path("cpu") + "/cpu.cfs_quota_us", quota_us, held);
  } else {
    return fail(ec::zone_failed, "this machine has no cpu controller");
  }
  return {};
}

/// In v1 a new group has no CPU and no memory node, and nobody can join it: cpuset(7).
result<void> inherit_cpuset(const std::string& path) {
  for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
    const auto own = read_text(path + file);
    if (own.find_first_not_of('\n') != std::string::npos || own.empty()) continue;
    if (!write_text(path + file, read_text(path.substr(0, path.rfind('/')) + file)))
      return fail(io_error("write", path + file, errno));
  }
  return {};
}

/// The folder at `path`, made when it is missing, with a shared lock.
result<unique_fd> hold_folder(const std::string& path) {
  for (int i = 0; i < hold_tries_max; ++i) {
    if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST)
      return fail(io_error("mkdir", path, errno));
    unique_fd folder{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!folder && errno == ENOENT) continue;  // Another helper that ended has just removed it.
    if (!folder || ::flock(folder.get(), LOCK_SH) != 0)
      return fail(io_error("open and lock", path, errno));
    ::fchmod(folder.get(), 0755);  // A zone comes this way to the groups of its own.
    // Or before we had the lock.
    struct stat held = {}, there = {};
    if (::fstat(folder.get(), &held) == 0 && ::stat(path.c_str(), &there) == 0 &&
        held.st_ino == there.st_ino)
      return folder;
  }
  return fail(ec::zone_failed, "the cgroup " + path + " is removed whenever it is made");
}

}  // namespace

bool cgroup_layout::in_v2(const std::string& controller) const {
  if (v2.empty() || v1.count(controller) != 0) return false;
  std::istringstream in{read_text(v2 + "/cgroup.controllers")};
  for (std::string word; in >> word;)
    if (word == controller) return true;
  return false;
}

cgroup_layout parse_cgroup_layout(std::string_view mountinfo) {
  cgroup_layout out;
  std::istringstream lines{std::string{mountinfo}};
  for (std::string line; std::getline(lines, line);) {
    // proc_pid_mountinfo(5): id parent dev root point options … - type source super-options
    const auto dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream before{line.substr(0, dash)};
    std::istringstream after{line.substr(dash + 3)};
    std::string id, above, device, root, point, type, source, options;
    before >> id >> above >> device >> root >> point;
    after >> type >> source >> options;
    if (type == "cgroup2" || type == "cgroup") out.all.push_back(point);
    if (type == "cgroup2" && out.v2.empty()) out.v2 = point;
    if (type != "cgroup") continue;
    std::istringstream words{options};
    for (std::string word; std::getline(words, word, ',');)
      for (const char* controller : v1_controllers)
        if (word == controller) out.v1.emplace(word, point);
  }
  return out;
}

result<cgroup_parents> cgroup_parents::hold(const cgroup_layout& layout, bool in_all) {
  cgroup_parents out;
  for (const auto& base : in_all ? layout.all : bases(layout)) {
    auto path = base + std::string{parent};
    path.pop_back();
    auto folder = hold_folder(path);
    if (!folder) return fail(folder.error());
    // It may be another user's, whose zones run here, too: then ours have no limits.
    if (::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) != 0)
      return fail(io_error("make a group in", path, errno));
    if (auto filled = inherit_cpuset(path); !filled) return fail(filled.error());
    out.held_.emplace(std::move(path), std::move(*folder));
  }
  return out;
}

cgroup_parents::~cgroup_parents() {
  for (const auto& [path, folder] : held_)
    if (::flock(folder.get(), LOCK_EX | LOCK_NB) == 0) ::rmdir(path.c_str());
}

result<zone_cgroup> zone_cgroup::make(const cgroup_layout& layout, const std::string& name,
                                      const cgroup_limits& limits) {
  zone_cgroup out;
  out.name_ = name;
  for (const auto& base : bases(layout)) {
    if (base == layout.v2) enable_v2_controllers(layout);
    const auto path = base + std::string{parent} + name;
    if (::mkdir(path.c_str(), 0755) != 0) {
      const int code = errno;
      out.remove();
      return fail(io_error("mkdir", path, code));
    }
    ::chmod(path.c_str(), 0755);  // Whatever our umask is: the zone reads its limits there.
    out.paths_.push_back(path);
    crash_point("zone.step");
    if (auto filled = inherit_cpuset(path); !filled) {
      out.remove();
      return fail(filled.error());
    }
    if (base == layout.v2) out.v2_path_ = path;
  }
  if (out.paths_.empty()) return fail(ec::zone_unsupported, "no cgroup hierarchy is mounted");
  auto limited =
      limit_memory(layout, name, out.v2_path_, limits.memory_bytes, out.memory_path_, out.limits_);
  if (limited) limited = limit_pids_and_cpu(layout, name, out.v2_path_, limits, out.limits_);
  if (!limited) {
    out.remove();
    return fail(limited.error());
  }
  return out;
}

result<std::vector<unique_fd>> zone_cgroup::open_joins() const {
  std::vector<unique_fd> out;
  for (const auto& path : paths_) {
    if (path == v2_path_) continue;
    out.emplace_back(::open((path + "/tasks").c_str(), O_WRONLY | O_CLOEXEC));
    if (!out.back()) return fail(io_error("open", path + "/tasks", errno));
  }
  return out;
}

std::vector<limits_view> zone_cgroup::views(const cgroup_layout& layout) const {
  const std::string folder{limits_folder};
  if (layout.v1.count("memory") == 0 && layout.v1.count("cpu") == 0) return {{v2_path_, folder}};
  std::vector<limits_view> out;
  for (const char* controller : v1_controllers)
    if (const auto at = layout.v1.find(controller); at != layout.v1.end())
      out.push_back({at->second + path_of(name_), folder + "/" + controller});
  return out;
}

std::string zone_cgroup::changed_limit() const {
  for (const auto& [path, value] : limits_)
    if (const auto now = read_text(path); now != value)
      return path + " reads " + (now.empty() ? "nothing" : now.substr(0, now.find('\n')));
  return {};
}

void zone_cgroup::kill() const {
  if (!v2_path_.empty() && write_text(v2_path_ + "/cgroup.kill", "1")) return;
  for (const auto& path : paths_)
    for (const int pid : members(path)) ::kill(pid, SIGKILL);
}

bool zone_cgroup::remove() const {
  bool gone = true;
  for (const auto& path : paths_)
    if (::rmdir(path.c_str()) != 0 && errno != ENOENT) gone = false;
  return gone;
}

result<void> zone_cgroup::reap(const cgroup_layout& layout, const std::string& prefix) {
  const auto end = steady_clock::now() + reap_deadline;
  for (const auto& base : layout.all) {
    const auto top = base + "/ntrace";
    DIR* entries = ::opendir(top.c_str());
    std::vector<std::string> found;
    while (const dirent* entry = entries ? ::readdir(entries) : nullptr)
      if (entry->d_type == DT_DIR && std::string_view{entry->d_name}.starts_with(prefix))
        found.push_back(top + "/" + entry->d_name);
    if (entries) ::closedir(entries);
    for (const auto& path : found) {
      zone_cgroup old;
      old.paths_ = {path};
      if (base == layout.v2) old.v2_path_ = path;
      old.kill();
      while (!old.remove()) {
        if (steady_clock::now() > end)
          return fail(ec::zone_failed, "the processes of " + path + " survive SIGKILL");
        old.kill();
        ::poll(nullptr, 0, 1);  // The kernel has no event for "rmdir would work now" on v1.
      }
    }
  }
  return {};
}

bool zone_cgroup::is_absent(const cgroup_layout& layout, const std::string& name) {
  return std::all_of(layout.all.begin(), layout.all.end(), [&](const std::string& base) {
    return ::access((base + std::string{parent} + name).c_str(), F_OK) != 0;
  });
}

std::string zone_cgroup::path_of(const std::string& name) { return std::string{parent} + name; }

void zone_cgroup::adopt_others(const cgroup_layout& layout) {
  for (const auto& base : layout.all) {
    auto path = base + path_of(name_);
    if (std::find(paths_.begin(), paths_.end(), path) == paths_.end() &&
        ::access(path.c_str(), F_OK) == 0)
      paths_.push_back(std::move(path));
  }
}

std::string zone_cgroup::escaped(const cgroup_layout& layout, int pid) const {
  std::istringstream lines{read_text("/proc/" + std::to_string(pid) + "/cgroup")};
  std::size_t seen = 0;
  for (std::string line; std::getline(lines, line);) {
    // cgroups(7): number:controllers:path; the number of v2 is 0, and it names none.
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) return "init's cgroups cannot be read";
    const auto controllers = line.substr(first + 1, second - first - 1);
    const bool is_ours = controllers.empty() ? line.starts_with("0:") && !v2_path_.empty()
                                             : is_limited_by(layout, controllers);
    if (!is_ours) continue;
    if (!line.ends_with(path_of(name_))) return "init is in the cgroup " + line;
    ++seen;
  }
  return seen >= bases(layout).size() ? "" : "init is in no cgroup of the zone";
}

std::uint64_t oom_kills(const std::string& memory_path) {
  if (memory_path.empty()) return 0;
  for (const char* file : {"/memory.events", "/memory.oom_control"}) {
    std::istringstream in{read_text(memory_path + file)};
    std::string word;
    std::uint64_t count = 0;
    while (in >> word >> count)
      if (word == "oom_kill") return count;
  }
  return 0;
}

}  // namespace ntrace::zone
