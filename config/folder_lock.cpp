#include "config/folder_lock.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "config/log.hpp"
#include "config/mutation.hpp"

namespace ntrace {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

constexpr milliseconds look{10};
constexpr milliseconds mutex_max{2'000};   // others hold it for some system calls
constexpr milliseconds unseen_max{1'000};  // an owner that is not found may have ended just now
constexpr std::size_t command_max = 256;
constexpr long exiting_flag = 0x4;  // PF_EXITING, as /proc/PID/stat has it; Linux: sched.h

/// A process, as far as it can be known.
struct owner {
  int pid = 0;                ///< 0: not known.
  bool is_seen = false;       ///< The kernel says that it holds the lock.
  bool is_elsewhere = false;  ///< `pid` is one of another pid namespace.
  std::int64_t since_ms = 0;
  std::string command;
};

std::string record_path(const std::string& folder, folder_role r) {
  return fmt::format("{}/{}.owner", folder, to_string(r));
}

std::string pid_namespace() {
  struct stat s {};
  return ::stat("/proc/self/ns/pid", &s) == 0 ? std::to_string(s.st_ino) : "";
}

/// The fields of /proc/PID/stat behind the name, from field 3 on. proc(5)
std::vector<std::string> stat_of(int pid) {
  const auto text = read_file(fmt::format("/proc/{}/stat", pid), 4096).value_or("");
  std::istringstream rest{text.substr(std::min(text.rfind(')') + 1, text.size()))};
  std::vector<std::string> out;
  for (std::string field; rest >> field;) out.push_back(field);
  return out;
}

/// When it started, in ticks since the boot: a pid that was given again has another.
std::string start_of(int pid) {
  const auto fields = stat_of(pid);
  return fields.size() > 19 ? fields[19] : "";
}

/// It was killed, or exits, and only its end is to be waited for.
bool is_ending(int pid) {
  const auto fields = stat_of(pid);
  if (fields.size() < 7) return true;
  if (fields[0] == "Z" || fields[0] == "X") return true;
  if ((std::atol(fields[6].c_str()) & exiting_flag) != 0) return true;
  const auto status = read_file(fmt::format("/proc/{}/status", pid), 1u << 16).value_or("");
  for (const std::string_view name : {"SigPnd:\t", "ShdPnd:\t"}) {
    const auto at = status.find(name);
    if (at == std::string::npos) continue;
    const auto pending = std::strtoull(status.c_str() + at + name.size(), nullptr, 16);
    if ((pending >> (SIGKILL - 1) & 1) != 0) return true;
  }
  return false;
}

std::string command_of(int pid) {
  auto out = read_file(fmt::format("/proc/{}/cmdline", pid), 1u << 20).value_or("");
  while (!out.empty() && out.back() == '\0') out.pop_back();
  std::replace(out.begin(), out.end(), '\0', ' ');
  return out.substr(0, command_max);
}

/// Whether the process holds the byte of `r` on the inode `of`, by what the kernel tells of its
/// descriptors. Nothing is opened or looked up there: that could block on a dead file system.
bool holds(const fs::path& process, const struct stat& of, folder_role r) {
  const auto byte = std::to_string(static_cast<int>(r));
  const auto inode = fmt::format(":{} {} {}\n", of.st_ino, byte, byte);
  std::error_code ignored;
  for (fs::directory_iterator at{process / "fdinfo", ignored}, end; at != end;
       at.increment(ignored)) {
    const auto text = read_file(at->path().string(), 1u << 16).value_or("");
    if (text.find("OFDLCK") == std::string::npos || text.find(inode) == std::string::npos) continue;
    struct stat s {};
    const auto link = process / "fd" / at->path().filename();
    if (::stat(link.c_str(), &s) == 0 && s.st_dev == of.st_dev && s.st_ino == of.st_ino)
      return true;
  }
  return false;
}

/// The process of this machine that holds the lock, if we may see its descriptors.
int find_holder(const struct stat& of, folder_role r, int likely) {
  if (likely > 0 && holds("/proc/" + std::to_string(likely), of, r)) return likely;
  std::error_code ignored;
  for (fs::directory_iterator at{"/proc", ignored}, end; at != end; at.increment(ignored)) {
    const int pid = std::atoi(at->path().filename().c_str());
    if (pid > 0 && holds(at->path(), of, r)) return pid;
  }
  return 0;
}

/// What the kernel says goes before what the owner wrote of itself.
owner find_owner(const std::string& folder, const struct stat& of, folder_role r) {
  const auto text = read_file(record_path(folder, r), 65'536).value_or("");
  auto record = json::parse(text, nullptr, false);
  if (!record.is_object()) record = json::object();
  const auto field = [&](const char* name) {
    const auto at = record.find(name);
    return at != record.end() && at->is_string() ? at->get<std::string>() : std::string{};
  };
  const auto number = [&](const char* name) {
    const auto at = record.find(name);
    return at != record.end() && at->is_number_integer() ? at->get<std::int64_t>() : 0;
  };
  const auto named = static_cast<int>(number("pid"));
  const bool is_ours = field("pid_namespace") == pid_namespace();
  const bool is_there = is_ours && named > 0 && start_of(named) == field("start");
  owner out;
  out.pid = find_holder(of, r, is_there ? named : 0);
  out.is_seen = out.pid != 0;
  if (out.is_seen) out.command = command_of(out.pid);
  // One of another user cannot be seen, and has the record's number only where we share numbers.
  const bool is_recorded = out.is_seen ? is_there && out.pid == named : is_there || !is_ours;
  if (!is_recorded && !(out.is_seen && !is_ours && field("command") == out.command)) return out;
  out.since_ms = number("since_ms");
  if (out.is_seen) return out;
  out.pid = named;
  out.is_elsewhere = !is_ours;
  out.command = field("command").substr(0, command_max);
  return out;
}

error busy(const std::string& folder, folder_role r, const owner& who) {
  const std::string role{to_string(r)};
  auto text = folder + " is in use by a " + role;
  std::vector<std::pair<std::string, std::string>> facts{{"folder", folder}, {"role", role}};
  if (who.pid == 0) {
    text += " that cannot be seen from here";
  } else {
    text +=
        fmt::format(": process {}{}", who.pid, who.is_elsewhere ? " of another pid namespace" : "");
    facts.emplace_back(who.is_elsewhere ? "pid_elsewhere" : "pid", std::to_string(who.pid));
  }
  if (who.since_ms != 0) {
    text += ", since " + format_wall(who.since_ms);
    facts.emplace_back("since_ms", std::to_string(who.since_ms));
  }
  if (!who.command.empty()) {
    text += " (" + who.command + ")";
    facts.emplace_back("command", who.command);
  }
  return {ec::folder_busy, text + "; stop that one first, or name another folder with --data",
          std::move(facts)};
}

struct flock byte_of(folder_role r, short type) {
  struct flock out {};
  out.l_type = type;
  out.l_whence = SEEK_SET;
  out.l_start = static_cast<off_t>(r);
  out.l_len = 1;
  return out;
}

/// For as long as it lives nobody else takes roles of the folder.
unique_fd take_mutex(const std::string& folder) {
  unique_fd out{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  const auto end = steady_clock::now() + mutex_max;
  while (out && ::flock(out.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK || steady_clock::now() >= end) return {};
    ::poll(nullptr, 0, static_cast<int>(look.count()));
  }
  return out;
}

/// Without it an owner is found by the kernel alone: a full disk keeps nobody from starting.
void write_record(const std::string& folder, folder_role r) {
  const json record{{"pid", ::getpid()},
                    {"pid_namespace", pid_namespace()},
                    {"start", start_of(::getpid())},
                    {"since_ms", wall_ms()},
                    {"command", command_of(::getpid())}};
  const auto path = record_path(folder, r), fresh = path + ".new";
  const unique_fd file{
      ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600)};
  const auto text = record.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  if (file && write_all(file.get(), text) && ::rename(fresh.c_str(), path.c_str()) == 0) return;
  const auto why = io_error("write", path, errno);
  ::unlink(fresh.c_str());
  log::warn("folder.owner_not_recorded", {{"reason", why.message}});
}

/// One try. The role that another process has; nothing when all are ours.
result<std::optional<folder_role>> try_lock(const std::string& folder, int fd,
                                            const std::vector<folder_role>& roles) {
  const auto mutex = take_mutex(folder);
  if (!mutex)
    return fail(
        ec::folder_busy,
        fmt::format(
            "another process keeps {} locked by flock(2); `ls -l /proc/*/fd | grep {}` may name it",
            folder, folder));
  const auto not_locked = [&](int code) {
    auto why = io_error("lock the folder", folder, code);
    why.message += "; its file system must have the locks of fcntl(2): name another with --data";
    return fail(std::move(why));
  };
  for (const auto r : roles) {
    auto other = byte_of(r, F_WRLCK);  // What would be in its way.
    if (::fcntl(fd, F_OFD_GETLK, &other) != 0) return not_locked(errno);
    if (other.l_type != F_UNLCK) return std::optional{r};
  }
  for (const auto r : roles) {
    auto own = byte_of(r, F_RDLCK);
    if (::fcntl(fd, F_OFD_SETLK, &own) != 0) return not_locked(errno);
    write_record(folder, r);
  }
  return std::optional<folder_role>{};
}

}  // namespace

std::string_view to_string(folder_role r) {
  return r == folder_role::dispatcher ? "dispatcher" : "runner";
}

bool is_network_file_system(long type) {
  // statfs(2): NFS, SMB, CIFS, SMB2, AFS, Coda, NCP.
  constexpr unsigned long network[]{0x6969,     0x517b,     0xff534d42, 0xfe534d42,
                                    0x5346414f, 0x73757245, 0x564c};
  return std::find(std::begin(network), std::end(network),
                   static_cast<unsigned long>(type) & 0xffffffff) != std::end(network);
}

result<folder_lock> folder_lock::take(const std::string& folder,
                                      const std::vector<folder_role>& roles) {
  unique_fd fd{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  struct stat of {};
  struct statfs on {};
  if (!fd || ::fstat(fd.get(), &of) != 0 || ::fstatfs(fd.get(), &on) != 0)
    return fail(io_error("open the folder", folder, errno));
  if (is_network_file_system(on.f_type))
    return fail(ec::bad_config, "the data folder " + folder +
                                    " is on a network file system, where another machine could "
                                    "use it too; name a local folder with --data");
  if (mutated(mutation::folder_without_owner)) return folder_lock{std::move(fd)};
  const auto began = steady_clock::now();
  for (;;) {
    const auto taken = try_lock(folder, fd.get(), roles);
    if (!taken) return fail(taken.error());
    if (!*taken) {
      folder_lock out{std::move(fd)};
      if (auto files = out.take_files(folder, roles); !files) return fail(files.error());
      return out;
    }
    const auto who = find_owner(folder, of, **taken);
    const auto waited = steady_clock::now() - began;
    // A killed process keeps its locks until the kernel has put it away.
    const bool ends = who.pid != 0 && !who.is_elsewhere && is_ending(who.pid);
    const auto patience = ends ? ending_max : who.is_seen ? milliseconds{0} : unseen_max;
    if (waited >= patience) return fail(busy(folder, **taken, who));
    ::poll(nullptr, 0, static_cast<int>(look.count()));
  }
}

result<void> folder_lock::take_files(const std::string& folder,
                                     const std::vector<folder_role>& roles) {
  for (const auto r : roles) {
    const auto path =
        folder + (r == folder_role::dispatcher ? "/journal.sqlite" : "/outbox.sqlite");
    // SQLite takes an empty file for a new database.
    unique_fd file{
        ::open(path.c_str(), O_RDONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600)};
    // The code that opens it reports any other fault.
    if (!file) continue;
    // The kernel frees what a killed owner held, one after the other.
    const auto end = steady_clock::now() + unseen_max;
    while (::flock(file.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      if (steady_clock::now() >= end)
        return fail(error{
            ec::folder_busy,
            fmt::format("{} is in use by another process, by this name or another (`fuser {}` "
                        "names it); stop that one first, and give each folder files of its own",
                        path, path),
            {{"folder", folder}, {"role", std::string{to_string(r)}}}});
      ::poll(nullptr, 0, static_cast<int>(look.count()));
    }
    files_.push_back(std::move(file));
  }
  return {};
}

}  // namespace ntrace
