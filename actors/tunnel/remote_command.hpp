#pragma once
// What is said to the server's shell to run a command there, and what its stderr tells of it. The
// server's own word is not enough: an exit status of 0 is also what a client sees when none was
// sent. docs/tunnel.md, "Remote commands". Pure.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/result.hpp"

namespace ntrace::tunnel {

/// The words as a POSIX shell reads them back, each in single quotes. ec::bad_argument: no word at
/// all, or one with a NUL, which no argument can hold.
result<std::string> quote_for_sh(const std::vector<std::string>& argv);

/// The line that runs `argv` under a small shell: it says its process id first and, on a last line
/// of stderr, how the command ended. `nonce`: hexadecimal digits, of this command alone.
/// sshd(8) makes each such shell the leader of a session, so that all it starts can be signalled.
/// Errors: of quote_for_sh.
result<std::string> remote_line(const std::vector<std::string>& argv, std::string_view nonce);

/// The line that sends `signal` (TERM, KILL) to the command and all it started, if that process is
/// still the one of `nonce`: a reused process id is left alone. It ends with 0 when the command is
/// gone, and with 1 when it got the signal.
std::string cancel_line(int pid, std::string_view nonce, std::string_view signal);

/// Takes the stderr of a remote_line apart.
class remote_stderr {
public:
  /// `bytes_max`: what is kept of the command's own.
  remote_stderr(std::string nonce, std::size_t bytes_max);
  void add(std::string_view bytes);
  /// Of the shell that leads the command's session; known once its first line is.
  std::optional<int> pid() const { return pid_; }
  /// The command's exit status as the shell saw it, 128 + n for signal n; none without the last
  /// line.
  std::optional<int> status() const;
  /// The command's own bytes, to be called at the end.
  std::string text() const;
  bool is_truncated() const { return is_truncated_; }

private:
  std::string nonce_;
  std::size_t bytes_max_;
  std::string head_;  ///< Until the first line is whole.
  std::string kept_;  ///< The command's, from its beginning.
  std::string tail_;  ///< What may be, or hold, the last line.
  std::optional<int> pid_;
  bool is_begun_ = false, is_truncated_ = false;
};

}  // namespace ntrace::tunnel
