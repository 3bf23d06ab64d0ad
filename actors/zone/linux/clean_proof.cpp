#include "actors/zone/linux/clean_proof.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <sstream>
#include <vector>

#include "actors/zone/linux/namespaces.hpp"
#include "config/digest.hpp"

namespace ntrace::zone {
namespace fs = std::filesystem;
namespace {

constexpr std::uint32_t ids_per_zone = 0x10000;
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

std::vector<int> processes() {
  std::vector<int> out;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator{"/proc", ignored}) {
    const auto name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") == name.npos) out.push_back(std::stoi(name));
  }
  return out;
}

std::string status_file(int pid) { return "/proc/" + std::to_string(pid) + "/status"; }

std::string named(int pid, std::string_view status) {
  return "process " + std::to_string(pid) + " (" + std::string{field(status, "Name")} + ")";
}

bool share_one(const namespace_ids& a, const namespace_ids& b) {
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i] == b[i]) return true;
  return false;
}

/// A mount of the zone, as enter_root() makes it.
struct wanted_mount {
  std::string_view at, type, options;  ///< No type: any. Options that it must have.
};
constexpr wanted_mount must_be[] = {
    {"/", "overlay", "nosuid,nodev"},         {"/usr", "", "ro,nosuid,nodev"},
    {"/proc", "proc", "nosuid,nodev,noexec"}, {"/dev", "tmpfs", "nosuid,noexec"},
    {"/dev/pts", "devpts", "nosuid,noexec"},  {"/dev/shm", "tmpfs", "nosuid,nodev"},
    {"/tmp", "tmpfs", "nosuid,nodev"},        {"/run", "tmpfs", "nosuid,nodev"}};
/// These exist where the kernel has the file below them.
constexpr wanted_mount may_be[] = {
    {"/proc/kcore", "", ""},      {"/proc/keys", "", ""},      {"/proc/sysrq-trigger", "", ""},
    {"/proc/timer_list", "", ""}, {"/proc/sys", "proc", "ro"}, {"/proc/irq", "proc", "ro"},
    {"/proc/bus", "proc", "ro"},  {"/proc/fs", "proc", "ro"},  {"/dev/null", "", ""},
    {"/dev/zero", "", ""},        {"/dev/full", "", ""},       {"/dev/random", "", ""},
    {"/dev/urandom", "", ""},     {"/dev/tty", "", ""}};

bool has_options(std::string_view all, std::string_view wanted) {
  const auto list = "," + std::string{all} + ",";
  std::istringstream words{std::string{wanted}};
  for (std::string one; std::getline(words, one, ',');)
    if (list.find("," + one + ",") == list.npos) return false;
  return true;
}

std::string wrong_descriptor(int pid) {
  std::error_code gone;
  for (const auto& entry : fs::directory_iterator{"/proc/" + std::to_string(pid) + "/fd", gone}) {
    std::error_code unread;
    const auto number = entry.path().filename().string();
    const auto leads = fs::read_symlink(entry.path(), unread).string();
    const bool is_right = (number <= "2" && number.size() == 1)
                              ? leads == "/dev/null"
                              : leads.starts_with("socket:") || leads == "anon_inode:[signalfd]";
    if (!is_right) return "init holds descriptor " + number + ", " + leads;
  }
  return gone ? "init's descriptors cannot be seen: " + gone.message() : "";
}

/// Names and values of the extended attributes: overlayfs keeps its marks there.
std::string attributes_of(const fs::path& path) {
  std::string names(4096, '\0'), out;
  const auto size = ::llistxattr(path.c_str(), names.data(), names.size());
  for (std::size_t at = 0; size > 0 && at < static_cast<std::size_t>(size);) {
    const std::string name{names.c_str() + at};
    std::string value(4096, '\0');
    const auto n = ::lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
    value.resize(static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    out += name + "=" + value + ";";
    at += name.size() + 1;
  }
  return out;
}

/// The entries below `layer`, by path.
result<std::vector<fs::path>> entries_of(const std::string& layer) {
  std::vector<fs::path> out{layer};
  std::error_code broken;
  for (fs::recursive_directory_iterator at{layer, broken}, end; !broken && at != end;
       at.increment(broken))
    out.push_back(at->path());
  if (broken) return fail(ec::io, "read " + layer + ": " + broken.message());
  std::sort(out.begin(), out.end());
  return out;
}

template <class Add>
result<std::string> seal(const std::string& layer, const Add& add) {
  const auto entries = entries_of(layer);
  if (!entries) return fail(entries.error());
  sha256 digest;
  for (const auto& path : *entries) {
    struct stat facts {};
    if (::lstat(path.c_str(), &facts) != 0) return fail(io_error("lstat", path.string(), errno));
    digest.add(path.string().substr(layer.size()));
    digest.add(std::string_view{"\0", 1});
    if (auto added = add(digest, path, facts); !added) return fail(added.error());
  }
  return digest.hex();
}

}  // namespace

std::optional<namespace_ids> namespaces_of(int pid) {
  static constexpr std::array names{"mnt", "pid", "net", "ipc", "user", "uts"};
  namespace_ids out{};
  for (std::size_t i = 0; i < names.size(); ++i) {
    struct stat facts {};
    if (::stat(("/proc/" + std::to_string(pid) + "/ns/" + names[i]).c_str(), &facts) != 0)
      return {};
    out[i] = facts.st_ino;
  }
  return out;
}

std::string stranger_in_range(const zone_ids& ids, const namespace_ids& live) {
  if (ids.is_shared) return {};
  for (const int pid : processes()) {
    // One that ends meanwhile is none.
    const auto status = read_file(status_file(pid), status_bytes_max);
    if (!status || field(*status, "State").starts_with('Z')) continue;
    std::istringstream uids{std::string{field(*status, "Uid")}};
    bool is_in_range = false;
    for (std::uint32_t uid = 0; uids >> uid;)
      is_in_range = is_in_range || (uid >= ids.root && uid - ids.root < ids_per_zone);
    if (!is_in_range) continue;
    const auto lives_in = namespaces_of(pid);
    if (lives_in && (*lives_in)[1] != live[1])
      return named(pid, *status) + " runs with an id of the zone";
  }
  return {};
}

std::vector<int> who_lives_in(const namespace_ids& namespaces) {
  std::vector<int> out;
  for (const int pid : processes())
    if (const auto lives_in = namespaces_of(pid); lives_in && share_one(*lives_in, namespaces))
      out.push_back(pid);
  return out;
}

std::string still_lives_in(const namespace_ids& namespaces, const std::vector<int>& pids) {
  for (const int pid : pids)
    if (const auto lives_in = namespaces_of(pid); lives_in && share_one(*lives_in, namespaces))
      return named(pid, read_file(status_file(pid), status_bytes_max).value_or("")) +
             " lives in a namespace of an earlier generation";
  return {};
}

std::string wrong_mount(std::string_view mountinfo) {
  std::set<std::string_view> missing;
  for (const auto& one : must_be) missing.insert(one.at);
  std::istringstream lines{std::string{mountinfo}};
  for (std::string line; std::getline(lines, line);) {
    // number parent device root mount-point options … - type source options
    std::istringstream words{line};
    std::string skipped, at, options, word, type;
    words >> skipped >> skipped >> skipped >> skipped >> at >> options;
    while (words >> word && word != "-") {
    }
    words >> type;
    const auto names_it = [&](const wanted_mount& one) { return one.at == at; };
    const auto* wanted = std::find_if(std::begin(must_be), std::end(must_be), names_it);
    const wanted_mount* found = wanted != std::end(must_be) ? wanted : nullptr;
    if (!found) {
      const auto* other = std::find_if(std::begin(may_be), std::end(may_be), names_it);
      if (other != std::end(may_be)) found = other;
    }
    // What the host has mounted below /usr comes along, closed like /usr itself.
    static constexpr wanted_mount below_usr{"/usr/", "", "ro,nosuid,nodev"};
    if (!found && std::string_view{at}.starts_with(below_usr.at)) found = &below_usr;
    if (!found) return "there is a mount at " + at;
    if (!found->type.empty() && found->type != type)
      return "the mount at " + at + " is " + type + ", not " + std::string{found->type};
    if (!has_options(options, found->options))
      return "the mount at " + at + " is " + options + ", without all of " +
             std::string{found->options};
    missing.erase(found->at);
  }
  return missing.empty() ? "" : "there is no mount at " + std::string{*missing.begin()};
}

std::string open_box(int init_pid, const zone_ids& ids) {
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
  for (const auto* map : {"uid_map", "gid_map"}) {
    std::istringstream numbers{read_file(folder + map, status_bytes_max).value_or("")};
    std::uint64_t inside = 1, outside = 0, count = 0, more = 0;
    numbers >> inside >> outside >> count;
    const auto wanted = ids.is_shared ? std::uint64_t{1} : std::uint64_t{ids_per_zone};
    if (inside != 0 || count != wanted || (!ids.is_shared && outside != ids.root) ||
        numbers >> more)
      return std::string{"its "} + map + " is not the one that was written";
  }
  if (auto wrong = wrong_descriptor(init_pid); !wrong.empty()) return wrong;
  const auto mounts = read_file(folder + "mountinfo");
  return mounts ? wrong_mount(*mounts) : "its mounts cannot be seen";
}

result<std::string> fast_seal(const std::string& layer) {
  return seal(layer, [](sha256& digest, const fs::path&, const struct stat& s) -> result<void> {
    const std::array<std::uint64_t, 9> facts{s.st_ino,
                                             static_cast<std::uint64_t>(s.st_size),
                                             s.st_mode,
                                             s.st_uid,
                                             s.st_gid,
                                             static_cast<std::uint64_t>(s.st_mtim.tv_sec),
                                             static_cast<std::uint64_t>(s.st_mtim.tv_nsec),
                                             static_cast<std::uint64_t>(s.st_ctim.tv_sec),
                                             static_cast<std::uint64_t>(s.st_ctim.tv_nsec)};
    digest.add({reinterpret_cast<const char*>(facts.data()), sizeof facts});
    return {};
  });
}

result<std::string> full_seal(const std::string& layer) {
  return seal(layer,
              [](sha256& digest, const fs::path& path, const struct stat& s) -> result<void> {
                const std::array<std::uint64_t, 4> facts{
                    s.st_mode, s.st_uid, s.st_gid,
                    S_ISREG(s.st_mode) ? static_cast<std::uint64_t>(s.st_size) : 0};
                digest.add({reinterpret_cast<const char*>(facts.data()), sizeof facts});
                digest.add(attributes_of(path));
                if (S_ISLNK(s.st_mode)) {
                  std::error_code unread;
                  digest.add(fs::read_symlink(path, unread).string());
                  if (unread)
                    return fail(ec::io, "read " + path.string() + ": " + unread.message());
                } else if (S_ISREG(s.st_mode)) {
                  const unique_fd fd{::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC)};
                  std::string block(256u << 10, '\0');
                  ssize_t n = fd ? 1 : -1;
                  while (n > 0 && (n = ::read(fd.get(), block.data(), block.size())) > 0)
                    digest.add({block.data(), static_cast<std::size_t>(n)});
                  if (n < 0) return fail(io_error("read", path.string(), errno));
                }
                return {};
              });
}

std::string machine_boot_id() {
  auto id = read_file("/proc/sys/kernel/random/boot_id", 64).value_or("");
  while (id.ends_with('\n')) id.pop_back();
  return id;
}

}  // namespace ntrace::zone
