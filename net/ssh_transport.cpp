#include "net/ssh_transport.hpp"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace ntrace::net {
namespace {

constexpr int unsent_in_kernel_max = 128 << 10;

}  // namespace

ssh_transport::ssh_transport(unique_fd socket) : socket_{std::move(socket)}, in_(inbox_bytes) {
  // What waits in the kernel waits before a probe: a slow line must not look like a dead one.
  const int unsent = unsent_in_kernel_max;
  ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
}

std::uint64_t ssh_transport::acknowledged_bytes() const {
  int queued = 0;
  ::ioctl(socket_.get(), SIOCOUTQ, &queued);  // tcp(7): unsent or unacknowledged
  return taken_bytes_ - (out_.size() - sent_) - static_cast<std::uint64_t>(std::max(queued, 0));
}

void ssh_transport::end(std::string why) {
  if (std::exchange(has_ended_, true)) return;
  why_ = std::move(why);
}

std::string_view ssh_transport::receive() {
  if (has_ended_ || is_cut_) return {};
  if (in_begin_ == in_end_) in_begin_ = in_end_ = 0;
  if (in_end_ == in_.size() && in_begin_ > 0) {
    std::memmove(in_.data(), in_.data() + in_begin_, in_end_ - in_begin_);
    in_end_ -= std::exchange(in_begin_, 0);
  }
  if (in_end_ == in_.size()) return {};
  const auto n = ::recv(socket_.get(), in_.data() + in_end_, in_.size() - in_end_, 0);
  if (n == 0) end("the server closed the connection");
  if (n < 0 && errno != EAGAIN && errno != EINTR) end(std::strerror(errno));
  if (n <= 0) return {};
  is_acknowledging_due_ = true;
  const std::string_view out{in_.data() + in_end_, static_cast<std::size_t>(n)};
  in_end_ += static_cast<std::size_t>(n);
  return out;
}

void ssh_transport::acknowledge() {
  if (!std::exchange(is_acknowledging_due_, false)) return;
  const int one = 1;
  ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
}

void ssh_transport::flush() {
  while (has_unsent() && !has_ended_) {
    const auto n = ::send(socket_.get(), out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) {
      end(std::strerror(errno));
      break;
    }
    sent_ += static_cast<std::size_t>(n);
  }
  if (!has_unsent()) {
    out_.clear();
    sent_ = 0;
  } else if (sent_ >= unsent_bytes_max) {
    out_.erase(0, std::exchange(sent_, 0));
  }
}

void ssh_transport::cut() {
  is_cut_ = true;
  in_begin_ = in_end_ = 0;
  out_.clear();
  sent_ = 0;
  end("given up");
}

ssize_t ssh_transport::give(void* to, std::size_t size) {
  const auto n = std::min(size, in_end_ - in_begin_);
  if (n == 0) return has_ended_ ? 0 : -EAGAIN;
  std::memcpy(to, in_.data() + in_begin_, n);
  in_begin_ += n;
  return static_cast<ssize_t>(n);
}

ssize_t ssh_transport::take(const void* from, std::size_t size) {
  // Above the bound too: who calls libssh2 asks can_take() first, and a packet is never cut.
  taken_bytes_ += size;
  if (!is_cut_) out_.append(static_cast<const char*>(from), size);
  return static_cast<ssize_t>(size);
}

}  // namespace ntrace::net
