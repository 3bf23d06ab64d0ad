#pragma once
// Standard output and standard error. On a terminal words of peers are harmless, and a failed write
// is never lost.
#include <memory>
#include <streambuf>
#include <string>
#include <string_view>

#include "config/result.hpp"
#include "config/terminal_text.hpp"

namespace ntrace::tools {

/// The reader of standard output went away before the end. The code of a program that SIGPIPE
/// ended.
constexpr int reader_gone_code = 141;

/// std::cout and std::cerr through this, for as long as it lives. One per process.
class checked_output {
public:
  checked_output();
  ~checked_output();
  checked_output(const checked_output&) = delete;
  checked_output& operator=(const checked_output&) = delete;

  /// Writes what waits. `code`, unless that is 0 and something was not written: then
  /// reader_gone_code, silently, or that of ec::io, which is reported.
  int finish(int code);

  /// True when nobody reads standard output any more, so that a command without an end can end.
  static bool is_gone();
  /// A sequence of our own for the terminal, past the filter.
  static void control(std::string_view sequence);

  /// A job's bytes, past the filter, because a person asked for them.
  static void raw(std::string_view bytes) { control(bytes); }

private:
  class channel;
  std::unique_ptr<channel> out_, err_;
  std::streambuf *cout_before_, *cerr_before_;
};

/// Writes `content` to the file that a person named. A regular file is replaced whole; to anything
/// else that is there (/dev/stdout, a pipe) it is written.
result<void> write_named_file(const std::string& path, std::string_view content);

}  // namespace ntrace::tools
