#include "actors/zone/linux/privileged_helper.hpp"

#include <dirent.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "actors/zone/linux/helper_server.hpp"

namespace ntrace::zone {
namespace {

int thread_count() {
  int count = 0;
  DIR* tasks = ::opendir("/proc/self/task");
  while (const dirent* entry = tasks ? ::readdir(tasks) : nullptr)
    if (entry->d_name[0] != '.') ++count;
  if (tasks) ::closedir(tasks);
  return count;
}

[[noreturn]] void serve(const helper_options& options, int socket) {
  // A terminal's Ctrl-C goes to the whole group; the helper ends when its caller does, not before.
  ::setsid();
  ::prctl(PR_SET_NAME, "ntrace-helper");
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(signal, SIG_IGN);
  ::signal(SIGCHLD, SIG_DFL);
  ::dup2(socket, 3);
  ::syscall(SYS_close_range, 4, ~0u, 0);
  helper_server{options}.run(3);
  _exit(0);
}

}  // namespace

result<std::shared_ptr<privileged_helper>> privileged_helper::start(const helper_options& options) {
  if (const int threads = thread_count(); threads != 1)
    return fail(ec::defect, "the helper must be forked from a process of one thread, not " +
                                std::to_string(threads));
  if (auto made = make_folders(options.data + "/zones"); !made) return fail(made.error());
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0)
    return fail(io_error("socketpair", "helper", errno));
  unique_fd ours{pair[0]}, theirs{pair[1]};
  const int pid = ::fork();
  if (pid < 0) return fail(io_error("fork", "helper", errno));
  if (pid == 0) serve(options, theirs.get());
  return std::shared_ptr<privileged_helper>{new privileged_helper{pid, std::move(ours)}};
}

privileged_helper::~privileged_helper() {
  socket_.reset();
  // It ends every zone first, each within its kill deadline.
  ::waitpid(pid_, nullptr, 0);
}

result<helper_answer> privileged_helper::call(const nlohmann::json& request) {
  const std::lock_guard lock{guard_};
  const auto lost = [] {
    return fail(ec::helper_lost, "the privileged helper is gone; restart ntrace");
  };
  const auto text = request.dump();
  if (::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL) < 0) return lost();
  std::string packet(64u << 10, '\0');
  alignas(cmsghdr) char ancillary[CMSG_SPACE(4 * sizeof(int))]{};
  iovec part{packet.data(), packet.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = ancillary;
  message.msg_controllen = sizeof ancillary;
  ssize_t n = 0;
  do n = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n <= 0) return lost();
  helper_answer out;
  if (auto* c = CMSG_FIRSTHDR(&message); c != nullptr && c->cmsg_type == SCM_RIGHTS) {
    std::array<int, 4> fds{};
    const auto count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    std::memcpy(fds.data(), CMSG_DATA(c), count * sizeof(int));
    for (std::size_t i = 0; i < count; ++i) out.fds.emplace_back(fds[i]);
  }
  auto answer = nlohmann::json::parse(packet.begin(), packet.begin() + n, nullptr, false);
  if (!answer.is_object()) return lost();
  if (!answer.contains("ok"))
    return fail(ec_from_string(answer.value("code", "defect")), answer.value("message", ""));
  out.value = std::move(answer["ok"]);
  return out;
}

}  // namespace ntrace::zone
