#pragma once
// A person's terminal in front of a program that has one of its own (pty(7)): keys, output and the
// window's size go to and fro. The person's is raw meanwhile.
#include <termios.h>

#include <memory>
#include <thread>

#include "config/file.hpp"
#include "config/result.hpp"

namespace ntrace::tools {

class terminal_relay {
public:
  /// Between descriptors 0 and 1 and a new terminal. ec::bad_argument when they are no terminal,
  /// ec::io. To be called while the process has one thread: SIGWINCH is blocked from then on.
  static result<std::unique_ptr<terminal_relay>> open();
  /// Passes on the last words and gives the terminal back as it was.
  ~terminal_relay();
  terminal_relay(const terminal_relay&) = delete;
  terminal_relay& operator=(const terminal_relay&) = delete;

  /// The program's side, once. When its last copy is closed, the relay is over.
  unique_fd take_program_side() { return std::move(program_side_); }

private:
  terminal_relay() = default;
  void run();
  void copy_window_size();

  termios before_{};
  unique_fd relay_side_, program_side_, resized_, stop_;
  std::thread pump_;
};

}  // namespace ntrace::tools
