#include "tools/terminal_relay.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace ntrace::tools {
namespace {

constexpr int last_words_ms = 200;  // of silence, once the program has ended

/// False at the end of the input, and when the output is closed.
bool pass_on(int from, int to) {
  std::array<char, 4096> block;
  const auto n = ::read(from, block.data(), block.size());
  if (n < 0 && errno == EINTR) return true;
  return n > 0 && write_all(to, {block.data(), static_cast<std::size_t>(n)});
}

}  // namespace

result<std::unique_ptr<terminal_relay>> terminal_relay::open() {
  std::unique_ptr<terminal_relay> out{new terminal_relay};
  if (::isatty(1) == 0 || ::tcgetattr(0, &out->before_) != 0)
    return fail(ec::bad_argument,
                "a shell needs a terminal; `ntrace zone exec UUID -- COMMAND` does not");
  out->relay_side_ = unique_fd{::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)};
  const int relay = out->relay_side_.get();
  std::array<char, 64> name{};
  if (relay < 0 || ::grantpt(relay) != 0 || ::unlockpt(relay) != 0 ||
      ::ptsname_r(relay, name.data(), name.size()) != 0)
    return fail(io_error("make", "a terminal", errno));
  out->program_side_ = unique_fd{::open(name.data(), O_RDWR | O_NOCTTY | O_CLOEXEC)};
  if (!out->program_side_) return fail(io_error("open", name.data(), errno));
  sigset_t resized;
  sigemptyset(&resized);
  sigaddset(&resized, SIGWINCH);
  ::pthread_sigmask(SIG_BLOCK, &resized, nullptr);
  out->resized_ = unique_fd{::signalfd(-1, &resized, SFD_CLOEXEC | SFD_NONBLOCK)};
  out->stop_ = unique_fd{::eventfd(0, EFD_CLOEXEC)};
  if (!out->resized_ || !out->stop_) return fail(io_error("watch", "the terminal", errno));
  out->copy_window_size();
  auto raw = out->before_;
  ::cfmakeraw(&raw);
  ::tcsetattr(0, TCSANOW, &raw);
  out->pump_ = std::thread{[self = out.get()] { self->run(); }};
  return out;
}

terminal_relay::~terminal_relay() {
  if (!pump_.joinable()) return;
  program_side_.reset();
  [[maybe_unused]] const bool told = ::eventfd_write(stop_.get(), 1) == 0;
  pump_.join();
  ::tcsetattr(0, TCSADRAIN, &before_);
}

void terminal_relay::copy_window_size() {
  winsize size{};
  if (::ioctl(0, TIOCGWINSZ, &size) == 0) ::ioctl(relay_side_.get(), TIOCSWINSZ, &size);
}

void terminal_relay::run() {
  bool has_keys = true, is_over = false;
  for (;;) {
    std::array<pollfd, 4> fds{{{has_keys && !is_over ? 0 : -1, POLLIN, 0},
                               {relay_side_.get(), POLLIN, 0},
                               {resized_.get(), POLLIN, 0},
                               {is_over ? -1 : stop_.get(), POLLIN, 0}}};
    const int n = ::poll(fds.data(), fds.size(), is_over ? last_words_ms : -1);
    if (n < 0 && errno != EINTR) return;
    if (n == 0) return;
    if (n < 0) continue;
    if (fds[2].revents != 0) {
      signalfd_siginfo unused;
      while (::read(resized_.get(), &unused, sizeof unused) > 0) {
      }
      copy_window_size();
    }
    // After the size: input typed after a change must find the new size.
    if (fds[0].revents != 0) has_keys = pass_on(0, relay_side_.get());
    // EIO: the last copy of the program's side is closed.
    if (fds[1].revents != 0 && !pass_on(relay_side_.get(), 1)) return;
    if (fds[3].revents != 0) is_over = true;
  }
}

}  // namespace ntrace::tools
