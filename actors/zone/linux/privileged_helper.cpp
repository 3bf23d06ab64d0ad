#include "actors/zone/linux/privileged_helper.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "actors/zone/linux/pass_descriptor.hpp"
#include "actors/zone/linux/sealed_program.hpp"
#include "config/gauges.hpp"
#include "config/json_parse.hpp"
#include "config/log.hpp"

// The helper's program, put into this one by the assembler (see CMakeLists.txt).
extern "C" const char ntrace_zone_helper_begin[];
extern "C" const char ntrace_zone_helper_end[];

namespace ntrace::zone {
namespace {

constexpr milliseconds revival_interval{1000};

/// In the child of a process that may have threads: nothing but system calls.
[[noreturn]] void become_helper(int image, int socket, char* const* argv, char* const* env) {
  const int program = ::fcntl(image, F_DUPFD_CLOEXEC, helper_socket + 1);
  if (program < 0 || ::dup2(socket, helper_socket) < 0) _exit(127);
  ::syscall(SYS_close_range, helper_socket + 1, program - 1, 0);
  ::syscall(SYS_close_range, program + 1, ~0u, 0);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::syscall(SYS_execveat, program, "", argv, env, AT_EMPTY_PATH);
  _exit(127);
}

}  // namespace

result<std::shared_ptr<privileged_helper>> privileged_helper::start(const helper_options& options) {
  if (options.backend != "linux" && options.backend != "oci")
    return fail(ec::bad_config, "zone_backend is \"" + options.backend + "\": use linux or oci");
  if (auto made = make_folders(options.data + "/zones"); !made) return fail(made.error());
  auto image =
      make_sealed_program("ntrace-helper", ntrace_zone_helper_begin, ntrace_zone_helper_end);
  if (!image) return fail(image.error());
  std::shared_ptr<privileged_helper> out{new privileged_helper{options}};
  out->image_ = std::move(*image);
  if (auto launched = out->launch(); !launched) return fail(launched.error());
  return out;
}

result<void> privileged_helper::launch() {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0)
    return fail(io_error("socketpair", "helper", errno));
  unique_fd ours{pair[0]}, theirs{pair[1]};
  std::string name{"ntrace-helper"}, degraded{options_.allow_degraded ? "yes" : "no"};
  char* argv[] = {name.data(),     options_.data.data(),    options_.ca_file.data(),
                  degraded.data(), options_.backend.data(), nullptr};
  std::string crash;
#ifdef NTRACE_CRASH_POINTS
  if (const char* at = std::getenv("NTRACE_CRASH")) crash = std::string{"NTRACE_CRASH="} + at;
#endif
  char* env[] = {crash.empty() ? nullptr : crash.data(), nullptr};
  const int pid = ::fork();
  if (pid < 0) return fail(io_error("fork", "helper", errno));
  if (pid == 0) become_helper(image_.get(), theirs.get(), argv, env);
  pid_ = pid;
  socket_ = std::move(ours);
  return {};
}

privileged_helper::~privileged_helper() {
  socket_.reset();
  // It ends every zone first, each within its kill deadline.
  if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
}

result<void> privileged_helper::revive() {
  if (pid_ > 0) return {};
  const auto now = steady_clock::now();
  if (revived_ && now - *revived_ < revival_interval)
    return fail(ec::helper_lost, "the privileged helper dies as soon as it is started");
  revived_ = now;
  auto launched = launch();
  if (launched)
    log::info("zone.helper_started", {{"pid", pid_.load()}});
  else
    log::error("zone.helper_not_started", {{"reason", to_string(launched.error())}});
  return launched;
}

tl::unexpected<error> privileged_helper::lost() {
  const int gone = pid_.exchange(-1);
  socket_.reset();
  if (gone <= 0) return fail(ec::helper_lost, "the privileged helper is not up");
  // What still lives, but does not answer, must not go on with our zones.
  ::kill(gone, SIGKILL);
  ::waitpid(gone, nullptr, 0);
  ++gauges::value("zone_helpers_lost");
  log::error("zone.helper_lost", {{"pid", gone}});
  // When it cannot be started now, the next call tries again.
  [[maybe_unused]] const auto another = revive();
  return fail(ec::helper_lost, "the privileged helper died, and all zones that were up; try again");
}

result<helper_answer> privileged_helper::call(const nlohmann::json& request, int pass) {
  const std::lock_guard lock{guard_};
  if (auto up = revive(); !up) return fail(up.error());
  const auto text = request.dump();
  if (!send_with_descriptor(socket_.get(), text, pass)) return lost();
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
  auto answer = parse_or_discard({packet.data(), static_cast<std::size_t>(n)});
  if (!answer.is_object()) return lost();
  if (!answer.contains("ok"))
    return fail(ec_from_string(answer.value("code", "defect")), answer.value("message", ""));
  out.value = std::move(answer["ok"]);
  return out;
}

}  // namespace ntrace::zone
