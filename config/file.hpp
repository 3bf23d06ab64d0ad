#pragma once
// Descriptors and whole files: owned, close-on-exec, durable where it says so.
#include <string>
#include <string_view>
#include <utility>

#include "config/result.hpp"

namespace ntrace {

/// Owns one file descriptor; closes it once. -1 owns nothing.
class unique_fd {
public:
  unique_fd() = default;
  explicit unique_fd(int fd) : fd_{fd} {}
  unique_fd(unique_fd&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
  unique_fd& operator=(unique_fd&& other) noexcept;
  ~unique_fd() { reset(); }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  void reset();
  explicit operator bool() const { return fd_ >= 0; }

private:
  int fd_ = -1;
};

/// The file's bytes. Never waits: ec::io for a pipe, a folder or a block device, when it cannot be
/// read, or when it is longer than `bytes_max`.
result<std::string> read_file(const std::string& path, std::size_t bytes_max = 64u << 20);

/// As read_file, and waits for what a pipe or a terminal gives, until its end.
result<std::string> read_stream(const std::string& path, std::size_t bytes_max);

/// The bytes of a file with a secret: a regular one, of root or of this process's user, without any
/// of the `forbidden` bits in its mode (chmod(2)). ec::bad_config says what to do about it, ec::io
/// when it cannot be read or is longer than `bytes_max`.
result<std::string> read_secret(const std::string& path, std::size_t bytes_max = 4096,
                                unsigned forbidden = 027);

/// Replaces the file so that after a crash either the old or the new content is there whole:
/// temporary file, fsync, rename, fsync of the folder.
result<void> write_file_durably(const std::string& path, std::string_view content, int mode = 0600);

/// Makes a finished file durable under another name: fsync, rename, fsync of the folder.
result<void> put_in_place(const std::string& temporary, const std::string& path);

/// Reads or writes exactly all bytes, over EINTR and short transfers; false on error or early end.
bool read_all(int fd, void* data, std::size_t size);
bool write_all(int fd, std::string_view data);

/// Makes the folder and its parents with `mode`; an existing one is fine.
result<void> make_folders(const std::string& path, int mode = 0700);

}  // namespace ntrace
