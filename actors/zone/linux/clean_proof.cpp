#include "actors/zone/linux/clean_proof.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <vector>

#include "actors/zone/linux/namespaces.hpp"
#include "actors/zone/linux/zone_mounts.hpp"
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

constexpr std::array namespace_names{"ns/mnt", "ns/pid", "ns/net", "ns/ipc", "ns/user", "ns/uts"};
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
  for (const auto at : zone_devices) out["/dev/" + std::string{at}] = {"", "", false};
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
  std::set<std::string_view> missing;
  for (const auto& [at, one] : table)
    if (one.is_needed) missing.insert(at);
  while (!mountinfo.empty()) {
    // number parent device root mount-point options … - type source options
    auto line = take(mountinfo, '\n');
    for (int skipped = 0; skipped < 4; ++skipped) take(line, ' ');
    const std::string at{take(line, ' ')}, options{take(line, ' ')};
    while (!line.empty() && take(line, ' ') != "-") {
    }
    const std::string type{take(line, ' ')};
    const auto known = table.find(at);
    if (known == table.end() && !at.starts_with("/usr/")) return "there is a mount at " + at;
    const auto& wanted = known == table.end() ? below_usr : known->second;
    if (!wanted.type.empty() && wanted.type != type)
      return "the mount at " + at + " is " + type + ", not " + std::string{wanted.type};
    if (!has_options(options, wanted.options))
      return "the mount at " + at + " is " + options + ", without all of " +
             std::string{wanted.options};
    missing.erase(at);
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
