#include "actors/zone/linux/sealed_program.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>

#include <cerrno>

#include "config/gauges.hpp"

namespace ntrace::zone {
namespace {

constexpr int seal_tries = 50;
constexpr int between_ms = 10;

/// fcntl(2): EBUSY while the kernel itself still refers to a page that was just written.
bool seal(int fd) {
  for (int i = 0;; ++i) {
    if (::fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0)
      return true;
    if (errno != EBUSY || i == seal_tries) return false;
    ++gauges::value("program_seal_retries");
    ::poll(nullptr, 0, between_ms);
  }
}

}  // namespace

result<unique_fd> make_sealed_program(const char* name, const char* begin, const char* end) {
  unique_fd fd{::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)};
  if (!fd || !write_all(fd.get(), {begin, static_cast<std::size_t>(end - begin)}) ||
      !seal(fd.get()))
    return fail(io_error("make the program", name, errno));
  return fd;
}

}  // namespace ntrace::zone
