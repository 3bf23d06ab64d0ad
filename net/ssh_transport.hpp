#pragma once
// The bytes below one SSH session: libssh2 reads and writes here and never meets the socket, so
// that no packet of it is ever cut in half by a full socket and no call of it waits.
#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "config/error.hpp"
#include "config/file.hpp"

namespace ntrace::net {

class ssh_transport {
public:
  /// `socket`: connected, non-blocking.
  explicit ssh_transport(unique_fd socket);

  int fd() const { return socket_.get(); }
  /// One recv(2); the bytes that came, also kept for libssh2. Empty at the end or without any.
  std::string_view receive();
  /// Acknowledges what came without delay, once what it caused is sent: a server that waits for the
  /// acknowledgement before it sends its next small packet (RFC 896) waits for nothing else. It is
  /// not sticky: tcp(7), TCP_QUICKACK.
  void acknowledge();
  /// Sends what the socket takes now.
  void flush();
  bool has_unsent() const { return sent_ < out_.size(); }
  /// Room for more cipher text. Small on purpose: a probe waits behind what is queued.
  bool can_take() const { return out_.size() - sent_ < unsent_bytes_max; }
  bool has_unread() const { return in_begin_ < in_end_; }
  bool can_receive() const { return in_end_ - in_begin_ < in_.size(); }
  /// Bytes taken from libssh2 ever, and how many of them the server's kernel has acknowledged.
  std::uint64_t taken_bytes() const { return taken_bytes_; }
  std::uint64_t acknowledged_bytes() const;
  /// The peer ended the stream, or it broke: why() says which.
  bool has_ended() const { return has_ended_; }
  const std::string& why() const { return why_; }
  /// From now on bytes are taken and thrown away, and the stream is at its end: libssh2 then frees
  /// a session without waiting for a line that is dead.
  void cut();

  // What libssh2's callbacks do; both follow its conventions: a count, -errno, or 0 for the end.
  ssize_t give(void* to, std::size_t size);
  ssize_t take(const void* from, std::size_t size);

private:
  static constexpr std::size_t unsent_bytes_max = 256u << 10;
  static constexpr std::size_t inbox_bytes = 256u << 10;
  void end(std::string why);

  unique_fd socket_;
  std::vector<char> in_;
  std::size_t in_begin_ = 0, in_end_ = 0;
  std::string out_;
  std::size_t sent_ = 0;
  std::uint64_t taken_bytes_ = 0;
  bool has_ended_ = false, is_cut_ = false, is_acknowledging_due_ = false;
  std::string why_;
};

}  // namespace ntrace::net
