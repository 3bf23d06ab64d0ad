#include "actors/zone/linux/sealed_program.hpp"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>

namespace ntrace::zone {

result<unique_fd> make_sealed_program(const char* name, const char* begin, const char* end) {
  unique_fd fd{::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)};
  if (!fd || !write_all(fd.get(), {begin, static_cast<std::size_t>(end - begin)}) ||
      ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0)
    return fail(io_error("make the program", name, errno));
  return fd;
}

}  // namespace ntrace::zone
