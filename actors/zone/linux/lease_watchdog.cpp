#include "actors/zone/linux/lease_watchdog.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "actors/zone/linux/lease_page.hpp"

namespace ntrace::zone {
namespace {

constexpr char tied = 'k', untied = 'u', over = 'o';  // what it reports
constexpr boot_clock::duration look_min = std::chrono::milliseconds{2};

/// A timer whose end is SIGKILL to this process, which the kernel sends by itself.
class fatal_timer {
public:
  bool make() {
    sigevent fatal{};
    fatal.sigev_notify = SIGEV_SIGNAL;
    fatal.sigev_signo = SIGKILL;
    return ::syscall(SYS_timer_create, CLOCK_BOOTTIME, &fatal, &id_) == 0;
  }
  void arm(boot_clock::time_point at) const {
    itimerspec value{};
    value.it_value = to_timespec(at);
    ::syscall(SYS_timer_settime, id_, TIMER_ABSTIME, &value, nullptr);
  }

private:
  int id_ = 0;  // the kernel's
};

/// Init as its tracee goes on after each stop. It gets the signal, but cannot be stopped: the lease
/// would then be all that is left of it.
void let_init_go_on(int init) {
  int status = 0;
  for (int pid = 0; (pid = ::waitpid(init, &status, WNOHANG | __WALL)) == init;) {
    if (!WIFSTOPPED(status)) _exit(0);
    const int number = WSTOPSIG(status);
    const bool is_delivered = status >> 16 == 0 && number != SIGSTOP && number != SIGTSTP &&
                              number != SIGTTIN && number != SIGTTOU;
    ::ptrace(PTRACE_CONT, init, 0, is_delivered ? number : 0);
  }
}

[[noreturn]] void watch(int init, int pidfd, const lease_page& page, int report, int parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) _exit(1);
  ::prctl(PR_SET_NAME, "ntrace-watchdog");
  sigset_t children;
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &children, nullptr);
  const int signals = ::signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
  const int alarm = ::timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
  fatal_timer fatal;
  if (signals < 0 || alarm < 0) _exit(1);
  const bool is_tied = fatal.make() && ::ptrace(PTRACE_SEIZE, init, 0, PTRACE_O_EXITKILL) == 0;
  for (bool is_told = false;; is_told = true) {
    const auto until = page.until();
    const auto now = boot_clock::now();
    const bool is_over = now >= until;
    if (is_tied && !is_over) fatal.arm(until);
    const char word = is_over ? over : is_tied ? tied : untied;
    if (!is_told && ::write(report, &word, 1) != 1) _exit(1);
    if (is_over) ::syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, 0);
    if (is_over) _exit(0);
    // A renewal is seen long before the timer ends, unless it comes at the very last.
    if (!arm(alarm, now + std::max((until - now) / 2, look_min))) _exit(1);
    std::array<pollfd, 3> fds{{{signals, POLLIN, 0}, {alarm, POLLIN, 0}, {pidfd, POLLIN, 0}}};
    ::poll(fds.data(), fds.size(), -1);
    signalfd_siginfo unused;
    while (::read(signals, &unused, sizeof unused) > 0) {
    }
    if (is_tied) let_init_go_on(init);
    if (fds[2].revents != 0) _exit(0);  // The zone is gone.
  }
}

}  // namespace

result<lease_watchdog> lease_watchdog::start(int init, int init_pidfd, unique_fd page) {
  const auto* lease = lease_page::map(page.get());
  if (lease == nullptr) return fail(io_error("map", "the page of a lease", errno));
  std::array<int, 2> report{};
  if (::pipe2(report.data(), O_CLOEXEC) != 0)
    return fail(io_error("pipe", "the zone's watchdog", errno));
  const unique_fd ours{report[0]};
  unique_fd theirs{report[1]};
  const int parent = ::getpid();
  const int pid = ::fork();
  if (pid == 0) {
    // It keeps neither our locks nor our sockets.
    const int told = ::fcntl(theirs.get(), F_DUPFD, 2), held = ::fcntl(init_pidfd, F_DUPFD, 2);
    if (::dup2(told, 0) < 0 || ::dup2(held, 1) < 0) _exit(1);
    ::syscall(SYS_close_range, 2, ~0u, 0);
    watch(init, 1, *lease, 0, parent);
  }
  ::munmap(const_cast<lease_page*>(lease), lease_page::bytes);
  if (pid < 0) return fail(io_error("fork", "the zone's watchdog", errno));
  lease_watchdog out{pid, false};
  theirs.reset();
  char word = 0;
  if (!read_all(ours.get(), &word, 1))
    return fail(ec::zone_failed, "the zone's watchdog ended before it began");
  if (word == over) return fail(ec::stale_lease, "the lease was over before the zone was up");
  out.is_tied_ = word == tied;
  return out;
}

lease_watchdog::~lease_watchdog() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

}  // namespace ntrace::zone
