#include "tools/output.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <iostream>
#include <mutex>
#include <utility>

#include "config/file.hpp"

namespace ntrace::tools {
namespace {

constexpr std::size_t buffered_max = 64u << 10;  // bytes; what a pipe of Linux holds

/// 0, or the errno of a failed write. Waits for a terminal that another program made non-blocking.
int write_whole(int fd, std::string_view data) {
  while (!data.empty()) {
    const auto n = ::write(fd, data.data(), data.size());
    if (n > 0) {
      data.remove_prefix(static_cast<std::size_t>(n));
    } else if (n < 0 && errno == EAGAIN) {
      pollfd one{fd, POLLOUT, 0};
      ::poll(&one, 1, -1);
    } else if (n == 0 || errno != EINTR) {
      return n == 0 ? ENOSPC : errno;
    }
  }
  return 0;
}

/// The next file that is opened would get a closed descriptor 0 to 2, and our output with it.
void occupy_closed_descriptors() {
  for (int fd = 0; fd <= 2; ++fd)
    if (::fcntl(fd, F_GETFD) == -1 && errno == EBADF) [[maybe_unused]]
      const int taken = ::open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);  // Neither works.
}

}  // namespace

class checked_output::channel : public std::streambuf {
public:
  explicit channel(int fd) : fd_{fd}, is_terminal_{::isatty(fd) == 1} {}

  int failed() const { return failed_; }
  void end() {
    const std::lock_guard lock{guard_};
    flush();
    if (is_terminal_) write(filter_.end());
  }

protected:
  int_type overflow(int_type c) override {
    if (traits_type::eq_int_type(c, traits_type::eof())) return traits_type::not_eof(c);
    const char one = traits_type::to_char_type(c);
    return xsputn(&one, 1) == 1 ? c : traits_type::eof();
  }
  std::streamsize xsputn(const char* data, std::streamsize size) override {
    const std::lock_guard lock{guard_};
    waiting_.append(data, static_cast<std::size_t>(size));
    if (waiting_.size() >= buffered_max && flush() != 0) return 0;
    return size;
  }
  int sync() override {
    const std::lock_guard lock{guard_};
    return flush();
  }

private:
  int flush() {
    const auto text = std::exchange(waiting_, {});
    return write(is_terminal_ ? filter_.add(text) : text);
  }
  int write(std::string_view data) {
    if (failed_ == 0 && !data.empty()) failed_ = write_whole(fd_, data);
    return failed_ == 0 ? 0 : -1;
  }
  std::mutex guard_;  // Actors' threads report on standard error.
  int fd_;
  std::atomic<int> failed_ = 0;
  bool is_terminal_;
  std::string waiting_;
  terminal_text filter_;
};

checked_output::checked_output() {
  occupy_closed_descriptors();
  out_ = std::make_unique<channel>(1);
  err_ = std::make_unique<channel>(2);
  cout_before_ = std::cout.rdbuf(out_.get());
  cerr_before_ = std::cerr.rdbuf(err_.get());
}

checked_output::~checked_output() {
  std::cout.rdbuf(cout_before_);
  std::cerr.rdbuf(cerr_before_);
}

int checked_output::finish(int code) {
  out_->end();
  const int failed = out_->failed();
  if (failed != 0 && failed != EPIPE) {
    const auto e = io_error("write", "standard output", failed);
    std::cerr << "ntrace: " << to_string(e) << "\n";
    if (code == 0) code = exit_code(e.code);
  }
  if (failed == EPIPE && code == 0) code = reader_gone_code;
  err_->end();
  return code;
}

bool checked_output::is_gone() {
  std::cout.flush();
  pollfd one{1, 0, 0};
  return !std::cout || (::poll(&one, 1, 0) > 0 && (one.revents & (POLLERR | POLLHUP)) != 0);
}

void checked_output::control(std::string_view sequence) {
  std::cout.flush();
  if (write_whole(1, sequence) != 0) std::cout.setstate(std::ios::badbit);
}

result<void> write_named_file(const std::string& path, std::string_view content) {
  struct stat found {};
  const bool is_there = ::stat(path.c_str(), &found) == 0;
  if (!is_there || S_ISREG(found.st_mode)) {
    // A link stays a link: its target is replaced.
    std::error_code ignored;
    const auto target = is_there ? std::filesystem::canonical(path, ignored).string() : path;
    return write_file_durably(target.empty() ? path : target, content, 0644);
  }
  const unique_fd to{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
  if (!to) return fail(io_error("open", path, errno));
  if (const int failed = write_whole(to.get(), content); failed != 0)
    return fail(io_error("write", path, failed));
  return {};
}

}  // namespace ntrace::tools
