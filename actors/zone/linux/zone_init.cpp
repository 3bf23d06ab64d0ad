// Pid 1 of a worker zone: a small static program that reaps, starts what the runner asks for with
// all rights dropped, and moves files in and out as the job's user. It trusts the runner's control
// socket and nothing else, and the runner does not trust it.
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "actors/zone/linux/bundle_format.hpp"
#include "actors/zone/linux/held_lease.hpp"
#include "actors/zone/linux/init_wire.hpp"
#include "actors/zone/linux/newer_calls.hpp"
#include "actors/zone/linux/pass_descriptor.hpp"
#include "actors/zone/linux/socket_gate.hpp"
#include "actors/zone/linux/zone_mounts.hpp"
#include "actors/zone/linux/zone_rlimits.hpp"
#include "actors/zone/linux/zone_sights.hpp"

namespace {

using namespace ntrace::zone;

constexpr int control_fd = init_control_fd;
constexpr int egress_backlog = 1024;     // Of connections that wait until the proxy has room.
constexpr collect_bounds collected_max;  // docs/profiling.md, "Symbols"

[[noreturn]] void die(const char* what, const char* object) {
  std::fprintf(stderr, "ntrace: %s %s: %s\n", what, object, std::strerror(errno));
  _exit(127);
}

bool transfer(int fd, char* data, std::size_t size, bool is_read) {
  while (size > 0) {
    const auto n = is_read ? ::read(fd, data, size) : ::write(fd, data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}

int open_beneath(int folder, const char* path, int flags, mode_t mode) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.mode = mode;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  return static_cast<int>(::syscall(SYS_openat2, folder, path, &how, sizeof how));
}

/// The folder that holds `path`, made where it is missing, never through a link.
int open_parent(int root, std::string& path) {
  const auto slash = path.find_last_of('/');
  if (slash == std::string::npos) return ::fcntl(root, F_DUPFD_CLOEXEC, 0);
  auto folder = path.substr(0, slash);
  path.erase(0, slash + 1);
  for (std::size_t at = 1; at <= folder.size(); ++at) {
    if (at != folder.size() && folder[at] != '/') continue;
    const auto part = folder.substr(0, at);
    const auto cut = part.find_last_of('/');
    const int above = cut == std::string::npos ? ::fcntl(root, F_DUPFD_CLOEXEC, 0)
                                               : open_beneath(root, part.substr(0, cut).c_str(),
                                                              O_PATH | O_DIRECTORY, 0);
    if (above < 0) return -1;
    ::mkdirat(above, part.substr(cut == std::string::npos ? 0 : cut + 1).c_str(), 0755);
    ::close(above);
  }
  return open_beneath(root, folder.c_str(), O_PATH | O_DIRECTORY, 0);
}

void unpack_file(int parent, const std::string& name, const bundle_header& head) {
  const auto mode = static_cast<mode_t>(head.mode & 0777u) | 0600u;
  const int fd =
      ::openat(parent, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
  if (fd < 0) die("create", name.c_str());
  char block[65536];
  for (auto left = head.size; left > 0;) {
    const auto n = left < sizeof block ? static_cast<std::size_t>(left) : sizeof block;
    if (!transfer(0, block, n, true)) die("read", "bundle");
    if (!transfer(fd, block, n, false)) die("write", name.c_str());
    left -= n;
  }
  ::close(fd);
}

[[noreturn]] void unpack(const char* destination) {
  if (::mkdir(destination, 0755) != 0 && errno != EEXIST) die("mkdir", destination);
  const int root = ::open(destination, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (root < 0) die("open", destination);
  for (;;) {
    bundle_header head{};
    if (!transfer(0, reinterpret_cast<char*>(&head), sizeof head, true)) die("read", "bundle");
    errno = EPROTO;
    if (head.magic != bundle_magic || head.path_bytes > 4096) die("decode", "bundle");
    if (head.kind == bundle_kind::end) _exit(0);
    std::string path(head.path_bytes, '\0');
    if (path.empty() || !transfer(0, path.data(), path.size(), true)) die("decode", "bundle");
    const int parent = open_parent(root, path);
    if (parent < 0) die("open the folder of", path.c_str());
    if (head.kind == bundle_kind::folder) {
      if (::mkdirat(parent, path.c_str(), (head.mode & 0777u) | 0700u) != 0 && errno != EEXIST)
        die("mkdir", path.c_str());
    } else if (head.kind == bundle_kind::symlink) {
      std::string target(head.size < 4096 ? static_cast<std::size_t>(head.size) : 0, '\0');
      if (target.empty() || !transfer(0, target.data(), target.size(), true))
        die("decode", "bundle");
      if (::symlinkat(target.c_str(), parent, path.c_str()) != 0) die("link", path.c_str());
    } else {
      unpack_file(parent, path, head);
    }
    ::close(parent);
  }
}

void put(const bundle_header& head, const char* path) {
  if (!transfer(1, reinterpret_cast<char*>(const_cast<bundle_header*>(&head)), sizeof head,
                false) ||
      !transfer(1, const_cast<char*>(path), head.path_bytes, false))
    _exit(1);
}

/// Writes the regular files of a folder to a pipe, so that they lie in nobody's memory twice.
[[noreturn]] void collect(const char* folder, const std::string& prefix) {
  std::uint64_t files = 0, bytes = 0, left_out = 0;
  std::uint32_t cut = 0;
  DIR* entries = ::opendir(folder);
  while (const dirent* entry = entries ? ::readdir(entries) : nullptr) {
    if (std::strncmp(entry->d_name, prefix.c_str(), prefix.size()) != 0) continue;
    // A link, FIFO or device in place of a file is the job's doing: it is left alone.
    const int fd =
        ::openat(::dirfd(entries), entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat facts {};
    if (fd < 0 || ::fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode)) {
      if (fd >= 0) ::close(fd);
      continue;
    }
    const auto size = static_cast<std::uint64_t>(facts.st_size);
    if (files == collected_max.files || bytes == collected_max.bytes) {
      ++left_out;
      ::close(fd);
      continue;
    }
    auto left = size;
    if (left > collected_max.file_bytes) left = collected_max.file_bytes;
    if (left > collected_max.bytes - bytes) left = collected_max.bytes - bytes;
    if (left < size) ++cut;
    ++files;
    bytes += left;
    put({bundle_magic, bundle_kind::file, 0600,
         static_cast<std::uint32_t>(std::strlen(entry->d_name)), left},
        entry->d_name);
    char block[65536];
    while (left > 0) {
      const auto want = left < sizeof block ? static_cast<std::size_t>(left) : sizeof block;
      auto n = ::read(fd, block, want);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {  // It shrank meanwhile: pad, so that the stream stays whole.
        std::memset(block, '\n', want);
        n = static_cast<ssize_t>(want);
      }
      if (!transfer(1, block, static_cast<std::size_t>(n), false)) _exit(1);
      left -= static_cast<std::uint64_t>(n);
    }
    ::close(fd);
  }
  put({bundle_magic, bundle_kind::end, cut, 0, left_out}, "");
  _exit(0);
}

void drop_rights(std::uint32_t uid, std::uint32_t file_mib_max) {
  if (file_mib_max > 0) {
    const rlimit file{rlim_t{file_mib_max} << 20, rlim_t{file_mib_max} << 20};
    ::setrlimit(RLIMIT_FSIZE, &file);
  }
  // The bounding set goes first: dropping from it needs a right that the id change takes away.
  // It ends with the first that the kernel does not know: capabilities(7).
  for (int cap = 0; ::prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; ++cap) {
  }
  if (uid != 0) {
    if (::setgroups(0, nullptr) != 0 || ::setresgid(uid, uid, uid) != 0 ||
        ::setresuid(uid, uid, uid) != 0)
      die("become", "the job's user");
  }
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct head{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2]{};
  if (::syscall(SYS_capset, &head, none) != 0) die("drop", "capabilities");
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) die("set", "no_new_privs");
}

/// One from outside is the host's: the zone has its own, to lock and to watch.
bool is_null_device(int fd) {
  struct stat facts {};
  return ::fstat(fd, &facts) == 0 && S_ISCHR(facts.st_mode) &&
         facts.st_rdev == makedev(zone_devices[0].major, zone_devices[0].minor);
}

/// For init and all that it will start. False with errno set.
bool lower_rlimits(std::uint64_t processes) {
  for (const auto& one : zone_rlimits)
    if (!lower_rlimit(one.resource, one.most)) return false;
  return lower_rlimit(RLIMIT_NPROC, processes);
}

[[noreturn]] void run_child(const init_record& r, const int* fds, int count) {
  ::setsid();
  for (int i = 0; i < 3; ++i) {
    const int fd = i < count && !is_null_device(fds[i]) ? fds[i] : ::open("/dev/null", O_RDWR);
    // The descriptors passed are above 2, for init keeps 0, 1 and 2 open on /dev/null.
    if (fd < 0 || ::dup2(fd, i) < 0) die("set up", "stdio");
  }
  if (r.op == init_op::attend && ::ioctl(0, TIOCSCTTY, 0) != 0) die("take", "the terminal");
  ::syscall(SYS_close_range, 3, ~0u, 0);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  // The helper ignores some, and what is ignored stays so over an exec.
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
  drop_rights(r.uid, r.file_mib_max);
  if (r.op == init_op::unpack) unpack(r.cwd.c_str());
  if (r.op == init_op::collect) collect(r.cwd.c_str(), r.argv.empty() ? "" : r.argv[0]);
  if (::chdir(r.cwd.c_str()) != 0) die("enter", r.cwd.c_str());
  std::vector<char*> argv, env;
  for (const auto& w : r.argv) argv.push_back(const_cast<char*>(w.c_str()));
  for (const auto& w : r.env) {
    env.push_back(const_cast<char*>(w.c_str()));
    if (w.starts_with("PATH=")) ::setenv("PATH", w.c_str() + 5, 1);  // execvpe looks there.
  }
  argv.push_back(nullptr);
  env.push_back(nullptr);
  ::execvpe(argv[0], argv.data(), env.data());
  die("start", argv[0]);
}

void reply(init_op op, std::uint32_t id, int status, int pass = -1, const char* step = "") {
  init_record r;
  r.op = op;
  r.id = id;
  r.status = status;
  r.cwd = step;
  if (!send_with_descriptor(control_fd, encode(r), pass) && errno == EPIPE) _exit(0);
}

/// A socket belongs to the namespace that it is made in: the proxy accepts from it outside.
void pass_listener() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(proxy_port);
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0 ||
      ::listen(fd, egress_backlog) != 0) {
    reply(init_op::refused, 0, errno, -1, "listen for the proxy");
    _exit(1);
  }
  reply(init_op::listener, 0, 0, fd);
  ::close(fd);
}

void serve_request(std::map<pid_t, std::uint32_t>& running, held_lease& lease) {
  static char packet[init_packet_bytes_max];
  alignas(cmsghdr) char ancillary[CMSG_SPACE(3 * sizeof(int))];
  iovec part{packet, sizeof packet};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = ancillary;
  message.msg_controllen = sizeof ancillary;
  const auto n = ::recvmsg(control_fd, &message, MSG_CMSG_CLOEXEC);
  if (n < 0 && errno == EINTR) return;
  if (n <= 0) _exit(0);  // The runner is gone, and with it the zone.
  int fds[3] = {-1, -1, -1};
  int count = 0;
  for (auto* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    count = static_cast<int>((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    std::memcpy(fds, CMSG_DATA(c), static_cast<std::size_t>(count) * sizeof(int));
  }
  const auto request = decode({packet, static_cast<std::size_t>(n)});
  if (request && request->op == init_op::kill_all) {
    ::kill(-1, SIGKILL);
  } else if (request && request->op == init_op::lease) {
    lease.take(fds[0]);
  } else if (request && (request->op == init_op::exec || request->op == init_op::attend ||
                         request->op == init_op::unpack || request->op == init_op::collect)) {
    const bool has_words = request->op == init_op::exec || request->op == init_op::attend;
    const bool startable = !has_words || !request->argv.empty();
    const pid_t pid = startable ? ::fork() : -1;
    if (pid == 0) run_child(*request, fds, count);
    if (pid < 0)
      reply(init_op::refused, request->id, startable ? errno : EINVAL);
    else
      running[pid] = request->id;
  }
  for (int i = 0; i < count; ++i) ::close(fds[i]);
  if (request && request->op == init_op::lease) reply(init_op::leased, 0, 0);
}

}  // namespace

/// zone-init pids=NUMBER sockets=NUMBER [shared] [network] [cpus=LIST], its socket at 3.
int main(int argc, char** argv) {
  bool is_shared = false, with_network = false;
  std::uint64_t pids = 0, sockets = 0;
  std::string_view cpus;
  for (int i = 1; i < argc; ++i) {
    is_shared = is_shared || std::strcmp(argv[i], "shared") == 0;
    with_network = with_network || std::strcmp(argv[i], "network") == 0;
    if (std::strncmp(argv[i], "pids=", 5) == 0) pids = std::strtoull(argv[i] + 5, nullptr, 10);
    if (std::strncmp(argv[i], "sockets=", 8) == 0)
      sockets = std::strtoull(argv[i] + 8, nullptr, 10);
    if (std::strncmp(argv[i], "cpus=", 5) == 0) cpus = argv[i] + 5;
  }
  // An OCI runtime leaves the program itself open.
  ::syscall(SYS_close_range, control_fd + 1, ~0u, 0);
  // Beside the end of the socket a second way in which a dead helper ends its zones.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::umask(022);
  // Nobody in the zone looks into it. With one id for all, its helper could not either.
  if (!is_shared) ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  ::prctl(PR_SET_NAME, "ntrace-init");
  sigset_t children;
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &children, nullptr);
  const int signals = ::signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
  std::map<pid_t, std::uint32_t> running;
  if (with_network) pass_listener();  // From then on, sockets are asked for.
  const socket_gate gate{install_last_filter(), sockets};
  const char* step = gate.fd() >= 0 ? nullptr : "install the last filter of system calls";
  if (step == nullptr && !lower_rlimits(pids)) step = "lower the limits";
  if (step == nullptr) step = show_sights(cpus);
  if (step != nullptr) {
    reply(init_op::refused, 0, errno, -1, step);
    _exit(1);
  }
  held_lease lease;
  reply(init_op::ready, 0, 0);
  for (;;) {
    pollfd fds[4] = {{control_fd, POLLIN, 0},
                     {signals, POLLIN, 0},
                     {lease.timer(), POLLIN, 0},
                     {gate.fd(), POLLIN, 0}};
    if (::poll(fds, 4, -1) < 0 && errno != EINTR) _exit(1);
    if (fds[2].revents != 0) lease.look();
    if ((fds[3].revents & POLLIN) != 0) gate.answer();
    if (fds[1].revents != 0) {
      signalfd_siginfo unused;
      while (::read(signals, &unused, sizeof unused) > 0) {
      }
      int status = 0;
      for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
        const auto at = running.find(pid);
        if (at == running.end()) continue;
        reply(init_op::exited, at->second, status);
        running.erase(at);
      }
    }
    if (fds[0].revents != 0) serve_request(running, lease);
  }
}
