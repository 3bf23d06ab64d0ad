#include "config/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace ntrace {

unique_fd& unique_fd::operator=(unique_fd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void unique_fd::reset() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

namespace {

result<std::string> read_to_end(int fd, const std::string& path, std::size_t bytes_max) {
  std::string out;
  char block[65536];
  for (;;) {
    const auto n = ::read(fd, block, sizeof block);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(io_error("read", path, errno));
    if (n == 0) return out;
    // Before they are kept: a device has no end.
    if (out.size() + static_cast<std::size_t>(n) > bytes_max)
      return fail(ec::io, "read " + path + ": longer than " + std::to_string(bytes_max) + " bytes");
    out.append(block, static_cast<std::size_t>(n));
  }
}

}  // namespace

result<std::string> read_file(const std::string& path, std::size_t bytes_max) {
  // A named pipe or a terminal would keep the open, or the read, waiting for somebody.
  const unique_fd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)};
  if (!fd) return fail(io_error("open", path, errno));
  struct stat s {};
  if (::fstat(fd.get(), &s) != 0) return fail(io_error("fstat", path, errno));
  if (S_ISFIFO(s.st_mode) || S_ISBLK(s.st_mode))
    return fail(ec::io, "read " + path + ": it is a " +
                            (S_ISFIFO(s.st_mode) ? "pipe" : "block device") + "; use a file");
  return read_to_end(fd.get(), path, bytes_max);
}

result<std::string> read_stream(const std::string& path, std::size_t bytes_max) {
  const unique_fd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!fd) return fail(io_error("open", path, errno));
  return read_to_end(fd.get(), path, bytes_max);
}

result<std::string> read_secret(const std::string& path, std::size_t bytes_max,
                                unsigned forbidden) {
  // A named pipe would keep the open waiting for its other end.
  const unique_fd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (!fd) return fail(io_error("open", path, errno));
  struct stat s {};
  if (::fstat(fd.get(), &s) != 0) return fail(io_error("fstat", path, errno));
  const auto unsafe = [&](const std::string& why) {
    return fail(ec::bad_config, path + " holds a secret, and " + why);
  };
  if (!S_ISREG(s.st_mode)) return unsafe("must be a regular file");
  if (s.st_uid != 0 && s.st_uid != ::geteuid())
    return unsafe("belongs to user " + std::to_string(s.st_uid) + ": `chown " +
                  std::to_string(::geteuid()) + " " + path + "`");
  if ((s.st_mode & forbidden) != 0)
    return unsafe("others may read or change it: `chmod " +
                  std::string{(forbidden & 040) != 0 ? "600 " : "640 "} + path + "`");
  return read_to_end(fd.get(), path, bytes_max);
}

result<void> write_file_durably(const std::string& path, std::string_view content, int mode) {
  const auto temporary = path + ".new";
  {
    const unique_fd fd{::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
                              static_cast<mode_t>(mode))};
    if (!fd) return fail(io_error("create", temporary, errno));
    if (!write_all(fd.get(), content)) return fail(io_error("write", temporary, errno));
  }
  return put_in_place(temporary, path);
}

result<void> put_in_place(const std::string& temporary, const std::string& path) {
  {
    const unique_fd fd{::open(temporary.c_str(), O_RDONLY | O_CLOEXEC)};
    if (!fd || ::fsync(fd.get()) != 0) return fail(io_error("sync", temporary, errno));
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) return fail(io_error("rename", path, errno));
  const auto folder = path.substr(0, path.find_last_of('/') + 1);
  const unique_fd dir{
      ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!dir || ::fsync(dir.get()) != 0) return fail(io_error("sync", folder, errno));
  return {};
}

bool read_all(int fd, void* data, std::size_t size) {
  auto* at = static_cast<char*>(data);
  while (size > 0) {
    const auto n = ::read(fd, at, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}

bool write_all(int fd, std::string_view data) {
  while (!data.empty()) {
    const auto n = ::write(fd, data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

result<void> make_folders(const std::string& path, int mode) {
  for (std::size_t at = 1; at <= path.size(); ++at) {
    if (at != path.size() && path[at] != '/') continue;
    const auto part = path.substr(0, at);
    if (::mkdir(part.c_str(), static_cast<mode_t>(mode)) != 0 && errno != EEXIST)
      return fail(io_error("mkdir", part, errno));
  }
  return {};
}

}  // namespace ntrace
