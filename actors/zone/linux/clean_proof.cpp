#include "actors/zone/linux/clean_proof.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <vector>

#include "actors/zone/linux/namespaces.hpp"
#include "actors/zone/linux/zone_mounts.hpp"
#include "actors/zone/linux/zone_rlimits.hpp"
#include "actors/zone/linux/zone_sights.hpp"
#include "config/digest.hpp"

namespace ntrace::zone {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t status_bytes_max = 64u << 10;

/// The value of a line "Name:\tvalue" of /proc/PID/status.
std::string_view field(std::string_view status, std::string_view name) {
  for (std::size_t at = 0; at < status.size();) {
    const auto end = std::min(status.find('\n', at), status.size());
    const auto line = status.substr(at, end - at);
    if (line.starts_with(name) && line.substr(name.size()).starts_with(":")) {
      const auto value = line.find_first_not_of(" \t", name.size() + 1);
      return value == line.npos ? std::string_view{} : line.substr(value);
    }
    at = end + 1;
  }
  return {};
}

constexpr std::array namespace_names{"ns/mnt",  "ns/pid", "ns/net",   "ns/ipc",
                                     "ns/user", "ns/uts", "ns/cgroup"};
constexpr std::size_t pid_at = 1, user_at = 4;

/// Of the folder `process` below /proc.
std::optional<namespace_ids> namespaces_below(int process) {
  namespace_ids out{};
  for (std::size_t i = 0; i < namespace_names.size(); ++i) {
    struct stat facts {};
    if (::fstatat(process, namespace_names[i], &facts, 0) != 0) return {};
    out[i] = facts.st_ino;
  }
  return out;
}

std::string status_below(int process) {
  const unique_fd file{::openat(process, "status", O_RDONLY | O_CLOEXEC)};
  std::array<char, 4096> text;  // proc(5); it is about 1,500 bytes, and Uid is in the first 300.
  const auto n = file ? ::read(file.get(), text.data(), text.size()) : 0;
  return {text.data(), static_cast<std::size_t>(std::max<ssize_t>(n, 0))};
}

/// True when the namespace belongs to the user namespace numbered `user`: ioctl_ns(2).
bool is_owned_by(int process, const char* name, std::uint64_t user) {
  const unique_fd own{::openat(process, name, O_RDONLY | O_CLOEXEC)};
  const unique_fd owner{own ? ::ioctl(own.get(), NS_GET_USERNS) : -1};
  struct stat facts {};
  return owner && ::fstat(owner.get(), &facts) == 0 && facts.st_ino == user;
}

/// The number of the user namespace is held, so it is nobody else's; the others may have been given
/// to new ones, which then have another owner.
bool stays_in(int process, const namespace_ids& lives_in, const ended_generation& ended) {
  const auto user = ended.namespaces[user_at];
  if (lives_in[user_at] == user) return true;
  for (std::size_t i = 0; i < lives_in.size(); ++i)
    if (i != user_at && lives_in[i] == ended.namespaces[i] &&
        is_owned_by(process, namespace_names[i], user))
      return true;
  return false;
}

bool has_id_of(const zone_ids& ids, std::string_view status) {
  std::istringstream uids{std::string{field(status, "Uid")}};
  for (std::uint32_t uid = 0; uids >> uid;)
    if (uid >= ids.root && uid - ids.root < ids_per_zone) return true;
  return false;
}

std::string named(std::string_view pid, std::string_view status) {
  return "process " + std::string{pid} + " (" + std::string{field(status, "Name")} + ")";
}

/// A mount as the engines make it, by zone_mounts.hpp.
struct wanted_mount {
  std::string_view type, options;  ///< No type: any. Options that it must have.
  bool is_needed = true;           ///< Else it is there only where the kernel has the file.
};

std::map<std::string, wanted_mount, std::less<>> wanted_mounts() {
  std::map<std::string, wanted_mount, std::less<>> out{{"/", {"overlay", root_flags}},
                                                       {"/usr", {"", usr_flags}}};
  for (const auto& one : zone_mounts) out[std::string{one.at}] = {one.type, one.flags};
  for (const auto& one : zone_devices) out["/dev/" + std::string{one.name}] = {"", "", false};
  for (const auto at : masked_files) out[std::string{at}] = {"", "", false};
  for (const auto at : masked_folders) out[std::string{at}] = {"tmpfs", "ro", false};
  for (const auto at : readonly_folders) out[std::string{at}] = {"proc", "ro", false};
  return out;
}

/// What stands before the next `separator`; `text` keeps what follows it.
std::string_view take(std::string_view& text, char separator) {
  const auto at = std::min(text.find(separator), text.size());
  const auto out = text.substr(0, at);
  text.remove_prefix(std::min(at + 1, text.size()));
  return out;
}

bool has_option(std::string_view all, std::string_view wanted) {
  while (!all.empty())
    if (take(all, ',') == wanted) return true;
  return false;
}

bool has_options(std::string_view all, std::string_view wanted) {
  while (!wanted.empty())
    if (!has_option(all, take(wanted, ','))) return false;
  return true;
}

/// Where a mount is, its own options and the type of its file system, of a line of
/// /proc/PID/mountinfo: number parent device root mount-point options … - type source options.
struct seen_mount {
  std::string at, options, type;
};
seen_mount take_mount(std::string_view& mountinfo) {
  auto line = take(mountinfo, '\n');
  for (int skipped = 0; skipped < 4; ++skipped) take(line, ' ');
  seen_mount out;
  out.at = take(line, ' ');
  out.options = take(line, ' ');
  while (!line.empty() && take(line, ' ') != "-") {
  }
  out.type = take(line, ' ');
  return out;
}

/// ioctl_ns(2): what the kernel counts in a user namespace is charged to its maker, too.
std::string wrong_maker(int pid, const zone_ids& ids) {
  const auto user = open_user_namespace(pid);
  uid_t maker = 0;
  if (!user || ::ioctl(user->get(), NS_GET_OWNER_UID, &maker) != 0)
    return "the maker of its user namespace cannot be seen";
  if (maker == (ids.is_shared ? ::geteuid() : ids.root)) return {};
  return "its user namespace was made by id " + std::to_string(maker);
}

bool is_null_device(const fs::path& path) {
  struct stat facts {};
  return ::stat(path.c_str(), &facts) == 0 && S_ISCHR(facts.st_mode) &&
         facts.st_rdev == makedev(zone_devices[0].major, zone_devices[0].minor);
}

std::string wrong_descriptor(int pid) {
  std::error_code gone;
  for (const auto& entry : fs::directory_iterator{"/proc/" + std::to_string(pid) + "/fd", gone}) {
    std::error_code unread;
    const auto number = entry.path().filename().string();
    const auto leads = fs::read_symlink(entry.path(), unread).string();
    const bool is_right = (number <= "2" && number.size() == 1)
                              ? is_null_device(entry.path())
                              : leads.starts_with("socket:") || leads == "anon_inode:[signalfd]" ||
                                    leads == "anon_inode:[timerfd]" ||
                                    leads == "anon_inode:seccomp notify";
    if (!is_right) return "init holds descriptor " + number + ", " + leads;
  }
  return gone ? "init's descriptors cannot be seen: " + gone.message() : "";
}

}  // namespace

std::optional<namespace_ids> namespaces_of(int pid) {
  const unique_fd process{
      ::open(("/proc/" + std::to_string(pid)).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
  return process ? namespaces_below(process.get()) : std::nullopt;
}

leftovers find_leftovers(const zone_ids& ids, const namespace_ids& live,
                         std::vector<ended_generation>& ended) {
  leftovers out;
  std::vector<bool> is_held(ended.size(), false);
  const std::unique_ptr<DIR, int (*)(DIR*)> all{::opendir("/proc"), ::closedir};
  if (!all) return {"/proc cannot be read", "/proc cannot be read"};
  while (const dirent* entry = ::readdir(all.get())) {
    if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
    const std::string pid{entry->d_name};
    // What has no program is a thread of the kernel's, or dead. Most are, so this is asked first.
    char program[2];
    if (::readlinkat(::dirfd(all.get()), (pid + "/exe").c_str(), program, sizeof program) < 0 &&
        errno == ENOENT)
      continue;
    const unique_fd process{
        ::openat(::dirfd(all.get()), pid.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
    // One that ends meanwhile is none.
    const auto lives_in = process ? namespaces_below(process.get()) : std::nullopt;
    if (!lives_in) continue;
    for (std::size_t i = 0; i < ended.size(); ++i) {
      if (!stays_in(process.get(), *lives_in, ended[i])) continue;
      is_held[i] = true;
      out.stayed = named(pid, status_below(process.get())) +
                   " lives in a namespace of an earlier generation";
    }
    if (ids.is_shared || (*lives_in)[pid_at] == live[pid_at]) continue;
    if (const auto status = status_below(process.get());
        has_id_of(ids, status) && !field(status, "State").starts_with('Z'))
      out.in_range = named(pid, status) + " runs with an id of the zone";
  }
  std::size_t at = 0;
  std::erase_if(ended, [&](const ended_generation&) { return !is_held[at++]; });
  return out;
}

std::string wrong_mount(std::string_view mountinfo) {
  static const auto table = wanted_mounts();
  // What the host has mounted below /usr comes along, closed like /usr itself.
  static constexpr wanted_mount below_usr{"", usr_flags, false};
  // Its own groups, by how many hierarchies the machine has.
  static constexpr wanted_mount of_limits{"", limits_flags, false};
  std::set<std::string_view> missing;
  for (const auto& [at, one] : table)
    if (one.is_needed) missing.insert(at);
  while (!mountinfo.empty()) {
    const auto [at, options, type] = take_mount(mountinfo);
    const auto known = table.find(at);
    const bool is_of_limits = at.starts_with(limits_folder) && type.starts_with("cgroup");
    if (known == table.end() && !at.starts_with("/usr/") && !is_of_limits)
      return "there is a mount at " + at;
    const auto& wanted = is_of_limits           ? of_limits
                         : known == table.end() ? below_usr
                                                : known->second;
    if (!wanted.type.empty() && wanted.type != type)
      return "the mount at " + at + " is " + type + ", not " + std::string{wanted.type};
    if (!has_options(options, wanted.options))
      return "the mount at " + at + " is " + options + ", without all of " +
             std::string{wanted.options};
    missing.erase(at);
  }
  return missing.empty() ? "" : "there is no mount at " + std::string{*missing.begin()};
}

std::vector<std::string> shared_with_host(std::string_view mountinfo) {
  bool has_files = false, has_devices = false;
  while (!mountinfo.empty()) {
    const auto [at, options, type] = take_mount(mountinfo);
    has_files = has_files || ((at == "/usr" || at.starts_with("/usr/")) && type != "overlay");
    has_devices = has_devices || at == "/dev/null";
  }
  std::vector<std::string> out;
  if (has_files) out.emplace_back("usr");
  if (has_devices) out.emplace_back("devices");
  return out;
}

std::string wrong_rlimit(std::string_view limits, std::uint64_t pids) {
  const auto is_held = [&](std::string_view name, std::uint64_t most) {
    for (auto rest = limits; !rest.empty();) {
      const auto line = take(rest, '\n');
      if (!line.starts_with(name)) continue;
      std::istringstream numbers{std::string{line.substr(name.size())}};
      std::uint64_t soft = 0, hard = 0;
      return static_cast<bool>(numbers >> soft >> hard) && soft <= most && hard <= most;
    }
    return false;
  };
  for (const auto& one : zone_rlimits)
    if (!is_held(one.name, one.most)) return "init's limit is not set: " + std::string{one.name};
  if (!is_held(processes_rlimit, pids))
    return "init's limit is not set: " + std::string{processes_rlimit};
  return {};
}

std::string open_box(int init_pid, const zone_ids& ids, std::uint64_t pids) {
  const auto folder = "/proc/" + std::to_string(init_pid) + "/";
  const auto status = read_file(folder + "status", status_bytes_max);
  if (!status) return "init is gone";
  char rights[17];
  std::snprintf(rights, sizeof rights, "%016llx",
                static_cast<unsigned long long>(init_capabilities));
  for (const auto& [name, wanted] : {std::pair<const char*, const char*>{"NoNewPrivs", "1"},
                                     {"Seccomp", "2"},
                                     {"CapBnd", rights},
                                     {"CapEff", rights},
                                     {"CapPrm", rights},
                                     {"CapInh", "0000000000000000"},
                                     {"CapAmb", "0000000000000000"}})
    if (field(*status, name) != wanted)
      return std::string{"init has "} + name + " " + std::string{field(*status, name)} + ", not " +
             wanted;
  // The one that it was started under, and its own. Kernels before 5.9 do not say.
  const std::string filters{field(*status, "Seccomp_filters")};
  if (!filters.empty() && std::strtoul(filters.c_str(), nullptr, 10) < 2)
    return "init has " + filters + " filter of system calls, not two";
  for (const auto* map : {"uid_map", "gid_map"}) {
    std::istringstream numbers{read_file(folder + map, status_bytes_max).value_or("")};
    std::uint64_t inside = 1, outside = 0, count = 0, more = 0;
    numbers >> inside >> outside >> count;
    const auto wanted = ids.is_shared ? std::uint64_t{1} : std::uint64_t{ids_per_zone};
    if (inside != 0 || count != wanted || (!ids.is_shared && outside != ids.root) ||
        numbers >> more)
      return std::string{"its "} + map + " is not the one that was written";
  }
  if (auto wrong = wrong_maker(init_pid, ids); !wrong.empty()) return wrong;
  if (auto wrong = wrong_descriptor(init_pid); !wrong.empty()) return wrong;
  if (auto wrong = wrong_rlimit(read_file(folder + "limits", status_bytes_max).value_or(""), pids);
      !wrong.empty())
    return wrong;
  const auto mounts = read_file(folder + "mountinfo");
  return mounts ? wrong_mount(*mounts) : "its mounts cannot be seen";
}

std::string machine_boot_id() {
  auto id = read_file("/proc/sys/kernel/random/boot_id", 64).value_or("");
  while (id.ends_with('\n')) id.pop_back();
  return id;
}

}  // namespace ntrace::zone
